//! `pagoda generate`: a data directory from a known preference model.

use std::path::Path;

use anyhow::Result;
use pagoda_simulator::{Config, World};
use serde_json::json;

use crate::{
    cli::{GenerateArgs, SizeArgs},
    output::{count, say, say_json},
    progress::Stages,
};

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

fn say_written(written: &pagoda_simulator::Written) {
    say(format_args!(
        "{} users, {} items, {} impressions, {} clicks",
        count(written.users),
        count(written.items),
        count(written.impressions),
        count(written.clicks)
    ));
}
