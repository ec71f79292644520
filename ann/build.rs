//! Compiles the C++ shim over the Faiss that `faiss-sys` has built, the inner products, and the check of the processor.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=cpp");
    let faiss = env::var("DEP_FAISS_C_ROOT").expect("faiss-sys builds Faiss and says where");
    let mut shim = cc::Build::new();
    shim.cpp(true)
        .std("c++17")
        .file("cpp/shim.cpp")
        .flag(format!("-isystem{faiss}/include"))
        .flag_if_supported("-fopenmp");
    if env::var("CARGO_FEATURE_FAILPOINTS").is_ok() {
        shim.define("PAGODA_FAILPOINTS", None);
    }
    shim.warnings(true).compile("pagoda_ann_shim");
    // Always at full speed, and with products and sums fused where the processor can.
    let mut kernels = cc::Build::new();
    kernels.cpp(true).std("c++17").opt_level(3).file("cpp/kernels.cpp").flag("-ffp-contract=fast").flag("-Wno-psabi");
    kernels.warnings(true).compile("pagoda_ann_kernels");
    // C, not C++: CXXFLAGS carry -march, and the check must run on a processor that lacks it.
    let mut check = cc::Build::new();
    check.file("cpp/cpu_check.c").warnings(true);
    if requires_v3() {
        check.define("PAGODA_REQUIRES_X86_64_V3", None);
    }
    check.compile("pagoda_ann_cpu_check");
}

/// Whether Faiss was compiled for x86-64-v3, going by the flags that `cc` and `cmake` read.
fn requires_v3() -> bool {
    let target = env::var("TARGET").unwrap_or_default();
    let names = [format!("CXXFLAGS_{target}"), format!("CXXFLAGS_{}", target.replace('-', "_")), "CXXFLAGS".to_owned()];
    let given = names.map(|name| {
        println!("cargo:rerun-if-env-changed={name}");
        env::var(name).unwrap_or_default()
    });
    target.starts_with("x86_64") && given.iter().any(|flags| flags.contains("-march=x86-64-v3"))
}
