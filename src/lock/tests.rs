use super::*;
use crate::diagnostic::human;

fn wrong(text: &str) -> String {
    let source = SourceText::new("containers.lock", text);
    human::render(&parse(&source).unwrap_err(), human::Screen::default())
}

fn digest(digit: char) -> Digest {
    Digest::new(&format!("sha256:{}", digit.to_string().repeat(64))).unwrap()
}

#[test]
fn what_is_written_is_read_again_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("containers.lock");
    assert_eq!(Lock::read(&path, "containers.lock").unwrap(), None);
    let images = [
        ("docker.io/library/python:3.11", 'b'),
        ("a.example/x:1", 'a'),
    ];
    let images = images.map(|(name, digit)| (name.to_owned(), digest(digit)));
    let lock = Lock {
        images: images.into(),
    };
    lock.write(&path, "containers.lock").unwrap();
    let read = Lock::read(&path, "containers.lock").unwrap();
    assert_eq!(read, Some(lock));
    let text = std::fs::read_to_string(&path).unwrap();
    let names: Vec<_> = text.lines().filter(|l| l.starts_with('"')).collect();
    assert!(
        names[0].starts_with("\"a.example/x:1\" = \"sha256:aaaa"),
        "{text}"
    );
    assert_eq!(names.len(), 2);
}

#[test]
fn damaged_foreign_and_newer_files_are_errors_with_their_line() {
    let texts = [
        "version = 1\n[images\n",
        "[package]\nname = \"x\"\n",
        "version = 2\n[pictures]\n",
        "version = \"1\"\n",
        "version = 1\nextra = 1\n[images]\n\"python:3.11\" = \"sha256:0\"\n\"a.example/x:1\" = \"sha256:0\"\n\"a.example/y:1\" = 1\n",
        "version = 1\n[images]\n<<<<<<< HEAD\n",
    ];
    let expected = [
        (":2", "is damaged"),
        (":1", "is no lock file of skiff"),
        (":1", "is of a newer skiff: its format has version 2"),
        (":1", "no version of a lock file"),
        (":4", "which is `docker.io/library/python:3.11`"),
        (":3", "has a conflict of a merge"),
    ];
    for (text, (line, title)) in texts.into_iter().zip(expected) {
        let shown = wrong(text);
        assert!(shown.contains(title), "{title}\n{shown}");
        assert!(shown.contains(&format!("containers.lock{line}")), "{shown}");
        assert!(shown.contains("help"), "{shown}");
    }
    // All of a file at once.
    let shown = wrong(texts[4]);
    for part in [
        "no `extra`",
        "`sha256:0` is not a digest",
        "a digest is a text",
    ] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
}
