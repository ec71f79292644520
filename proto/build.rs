//! Compiles the proto files without protoc, keeping the descriptor set for server reflection.
use std::{env, fs, path::PathBuf};

const FILES: [&str; 7] = [
    "pagoda/feature/v1/feature.proto",
    "pagoda/filter/v1/filter.proto",
    "pagoda/index/v1/index.proto",
    "pagoda/item/v1/item.proto",
    "pagoda/ranking/v1/ranking.proto",
    "pagoda/recall/v1/recall.proto",
    "pagoda/user/v1/user.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=pagoda");
    let descriptors = protox::compile(FILES, ["."])?;
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
