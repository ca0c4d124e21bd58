//! Writes what the corpora begin with.

use std::io;

fn main() -> io::Result<()> {
    for (target, name, bytes) in fuzz_targets::seeds::all() {
        let folder = fuzz_targets::corpus(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
