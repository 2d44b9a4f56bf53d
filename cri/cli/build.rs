//! Compiles the clients of the CRI's and of our own service.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for schema in ["api.proto", "pintle.proto"] {
        println!("cargo:rerun-if-changed=../proto/{schema}");
        tonic_prost_build::configure()
            .build_server(false)
            .compile_fds(protox::compile([schema], ["../proto"])?)?;
    }
    Ok(())
}
