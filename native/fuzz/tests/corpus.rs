//! Replays what fuzzing has found worth keeping, and each prefix of it.

use std::path::Path;

#[test]
fn the_corpus_is_handled() {
    for (name, target) in lacuna_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty(), "{} is empty", folder.display());
        files.sort();
        for file in files {
            let input = std::fs::read(&file).unwrap();
            for end in (0..=input.len()).step_by((input.len() / 16).max(1)).chain([input.len()]) {
                target(&input[..end]);
            }
        }
    }
}
