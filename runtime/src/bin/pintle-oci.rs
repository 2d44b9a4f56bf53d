//! The program `pintle-oci`: containers from the command line, as the Open Container Initiative specifies them.

fn main() {
    std::process::exit(pintle_runtime::oci::run(std::env::args_os().skip(1)));
}
