//! `pagoda generate`: a data directory from a known preference model.

use std::path::Path;

use anyhow::{Result, bail};
use pagoda_simulator::{Config, WORLD_FILE, World};
use serde_json::json;

use crate::{
    cli::{GenerateArgs, SizeArgs},
    output::{count, say, say_json},
    progress::Stages,
};

/// What a generated directory holds.
const GENERATED: [&str; 5] = ["schema.toml", "users.parquet", "items.parquet", "interactions.parquet", WORLD_FILE];

pub(crate) fn run(args: &GenerateArgs) -> Result<()> {
    let (_, written) = write(&args.size, &args.out)?;
    if args.json {
        return say_json(&json!({
            "users": written.users,
            "items": written.items,
            "impressions": written.impressions,
            "clicks": written.clicks,
        }));
    }
    say_written(&written);
    Ok(())
}

/// Makes a world, writes it and says so.
pub(crate) fn generate(size: &SizeArgs, out: &Path) -> Result<World> {
    let (world, written) = write(size, out)?;
    say_written(&written);
    Ok(world)
}

fn write(size: &SizeArgs, out: &Path) -> Result<(World, pagoda_simulator::Written)> {
    require_generated(out)?;
    let default = Config::default();
    let world = World::new(Config {
        users: size.users.unwrap_or(default.users),
        items: size.items.unwrap_or(default.items),
        impressions: size.impressions.unwrap_or(default.impressions),
        seed: size.seed.unwrap_or(default.seed),
    })?;
    let mut stages = Stages::new("impressions");
    let written = world.write(out, &mut |done, total| stages.show("generate", done, total, String::new()))?;
    stages.end();
    Ok((world, written))
}

/// What is there is replaced; so nothing may be there that was not generated.
fn require_generated(out: &Path) -> Result<()> {
    let Ok(entries) = out.read_dir() else { return Ok(()) };
    let names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into())).collect();
    let is_generated = |name: &String| GENERATED.contains(&name.as_str());
    let found = names.iter().find(|name| !is_generated(name));
    let found = found.or(names.first().filter(|_| !names.iter().any(|name| name == WORLD_FILE)));
    match found {
        Some(found) => {
            bail!(
                "--out {}: there is `{found}`, which was not generated and would be lost; name another",
                out.display()
            )
        }
        None => Ok(()),
    }
}

fn say_written(written: &pagoda_simulator::Written) {
    say(format_args!(
        "{} users, {} items, {} impressions, {} clicks",
        count(written.users),
        count(written.items),
        count(written.impressions),
        count(written.clicks)
    ));
}
