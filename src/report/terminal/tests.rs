use super::super::state::tests::Told;
use super::*;
use crate::engine::event::EventKind;
use crate::engine::outcome::ContainerStatus;
use proptest::prelude::*;

fn view(told: &Told, columns: usize, rows: usize) -> View<'_> {
    View {
        state: &told.state,
        now: told.now,
        size: Size { columns, rows },
        color: false,
        frame: 0,
    }
}

/// What the terminal shows; the bar marks its first and last cell.
fn shown(told: &Told, columns: usize, rows: usize) -> String {
    let lines = view(told, columns, rows).lines();
    let line = |line: &Line| {
        let rest = columns - line.width;
        format!("|{}{}|", line.text, " ".repeat(rest))
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Two that run, four that wait.
fn busy() -> Told {
    let mut told = Told::new(&[
        ("base", &[]),
        ("train", &["base"]),
        ("inference", &[]),
        ("sfm", &[]),
        ("etl", &["train"]),
        ("report", &["train", "sfm"]),
        ("alone", &[]),
    ]);
    told.start("base");
    told.finish("base", ContainerStatus::Built);
    told.start("train");
    told.step("train", 1, "[1/4] FROM python@sha256:00", 3);
    told.step("train", 2, "[2/4] WORKDIR /app", 3);
    told.step_end("train", 2, true);
    told.step_end("train", 1, false);
    told.step(
        "train",
        3,
        "[3/4] RUN pip install -r requirements.txt\nand more",
        3,
    );
    told.log("train", 3, "Collecting numpy\u{1b}[2J from somewhere");
    told.start("inference");
    told.step("inference", 1, "[1/3] FROM gcc:12@sha256:00", 2);
    told.step_end("inference", 1, false);
    told.progress("inference", 1, "sha256:aa", (12_300_000, 45_000_000));
    told
}

/// The same with one that failed.
fn failing() -> Told {
    let mut told = busy();
    told.start("sfm");
    told.finish("sfm", ContainerStatus::Failed);
    told
}

#[test]
fn each_container_has_a_line_while_there_is_room() {
    insta::assert_snapshot!(shown(&busy(), 100, 24), @r"
    |⠋ train      1/3 (1 cached)  RUN pip install -r requirements.txt a…  Collecting numpy [2J …   10.0s |
    |⠋ inference  0/2             FROM gcc:12                                       12.3/45.0 MB    3.0s |
    |· sfm        waits for its turn                                                                     |
    |· etl        waits for train                                                                        |
    |· report     waits for train, sfm                                                                   |
    |· alone      waits for its turn                                                                     |
    |building 1/7 · 2 running · 4 waiting · steps 3/7 · 2 cached · pulled 12.3 MB                  13.0s |
    ");
    insta::assert_snapshot!(shown(&failing(), 100, 24), @r"
    |⠋ train      1/3 (1 cached)  RUN pip install -r requirements.txt a…  Collecting numpy [2J …   12.0s |
    |⠋ inference  0/2             FROM gcc:12                                       12.3/45.0 MB    5.0s |
    |✗ sfm        0/2 (1 cached)  RUN make all                                                      3.5s |
    |· etl        not started, as sfm failed                                                             |
    |· report     not started, as sfm failed                                                             |
    |· alone      not started, as sfm failed                                                             |
    |building 1/7 · 1 failed · 2 running · 3 waiting · steps 3/9 · 3 cached · pulled 12.3 MB       15.0s |
    ");
}

#[test]
fn narrow_terminals_get_less_and_nothing_wraps() {
    insta::assert_snapshot!(shown(&busy(), 60, 24), @r"
    |⠋ train      1/3  RUN pip install -r …  Collecting…   10.0s |
    |⠋ inference  0/2  FROM gcc:12          12.3/45.0 MB    3.0s |
    |· sfm        waits for its turn                             |
    |· etl        waits for train                                |
    |· report     waits for train, sfm                           |
    |· alone      waits for its turn                             |
    |building 1/7 · 2 running · 4 waiting · steps 3/7      13.0s |
    ");
    insta::assert_snapshot!(shown(&busy(), 40, 24), @r"
    |⠋ train      RUN pip install -…   10.0s |
    |⠋ inference  FROM gcc:12           3.0s |
    |· sfm        waits for its turn         |
    |· etl        waits for train            |
    |· report     waits for train, sfm       |
    |· alone      waits for its turn         |
    |building 1/7 · 2 running          13.0s |
    ");
    insta::assert_snapshot!(shown(&busy(), 20, 24), @r"
    |⠋ train   RUN pip … |
    |⠋ infer…  FROM gcc… |
    |· sfm     waits fo… |
    |· etl     waits fo… |
    |· report  waits fo… |
    |· alone   waits fo… |
    |building 1/7  13.0s |
    ");
}

#[test]
fn low_terminals_keep_what_runs_and_the_totals() {
    insta::assert_snapshot!(shown(&busy(), 60, 5), @r"
    |⠋ train      1/3  RUN pip install -r …  Collecting…   10.0s |
    |⠋ inference  0/2  FROM gcc:12          12.3/45.0 MB    3.0s |
    |· waiting: 2 for their turn, 1 for train, 1 for train and … |
    |building 1/7 · 2 running · 4 waiting · steps 3/7      13.0s |
    ");
    insta::assert_snapshot!(shown(&failing(), 60, 6), @r"
    |⠋ train      1/3  RUN pip install -r …  Collecting…   12.0s |
    |⠋ inference  0/2  FROM gcc:12          12.3/45.0 MB    5.0s |
    |✗ sfm        0/2  RUN make all                         3.5s |
    |· 3 not started, as sfm failed                              |
    |building 1/7 · 1 failed · 2 running · 3 waiting       15.0s |
    ");
    insta::assert_snapshot!(shown(&busy(), 60, 3), @r"
    |⠋ train      1/3  RUN pip install -r …  Collecting…   10.0s |
    |building 1/7 · 2 running · 4 waiting · steps 3/7      13.0s |
    ");
    insta::assert_snapshot!(shown(&busy(), 60, 2), @"|building 1/7 · 2 running · 4 waiting · steps 3/7      13.0s |");
    assert_eq!(shown(&busy(), 60, 1), "");
}

#[test]
fn the_end_of_a_run_is_told() {
    let mut told = Told::new(&[("a", &[]), ("b", &[])]);
    for name in ["a", "b"] {
        told.start(name);
        told.finish(name, ContainerStatus::Built);
    }
    let built = view(&told, 60, 24).built("a").unwrap();
    insta::assert_snapshot!(built.text, @"✓ a  built, 1 of 2 steps cached                        3.5s");
    insta::assert_snapshot!(shown(&told, 60, 24), @"|releasing 2/2 · steps 4/4 · 2 cached                   4.0s |");
    told.tell(EventKind::CachesExporting { containers: vec![] });
    told.tell(EventKind::CacheExportStarted {
        container: "a".into(),
        reference: "x:buildcache".into(),
    });
    insta::assert_snapshot!(shown(&told, 60, 24), @r"
    |⠋ a       exporting the cache                          0.0s |
    |all pushed, exporting caches 0/2 · steps 4/4           6.0s |
    ");
}

#[test]
fn colours_take_no_cells() {
    let told = busy();
    let plain = view(&told, 80, 24).lines();
    let coloured = View {
        color: true,
        ..view(&told, 80, 24)
    };
    let coloured = coloured.lines();
    assert!(coloured[0].text.contains("\x1b[36m"));
    let widths = |lines: &[Line]| lines.iter().map(|line| line.width).collect::<Vec<_>>();
    assert_eq!(widths(&plain), widths(&coloured));
}

const NAMES: [&str; 6] = [
    "a",
    "service-with-a-rather-long-name-of-its-own",
    "c",
    "d",
    "学习-模型",
    "f",
];

/// Anything that may be told of a container, in any order.
fn anything() -> impl Strategy<Value = (usize, u8, u32, String, u64, u64)> {
    let text = prop_oneof![
        "\\[[0-9]/[0-9]\\] RUN [a-z ]{0,80}",
        "\\[internal\\] [a-z ]{0,20}",
        Just("exporting to image".to_owned()),
        "(?s).{0,60}",
    ];
    (
        0..NAMES.len(),
        0_u8..11,
        0_u32..5,
        text,
        any::<u64>(),
        any::<u64>(),
    )
}

fn tell(
    told: &mut Told,
    (name, what, step, text, current, total): (usize, u8, u32, String, u64, u64),
) {
    let name = NAMES[name];
    match what {
        0 => told.start(name),
        1..=3 => told.step(name, step, &text, step),
        4..=5 => told.progress(name, step, &text, (current, total)),
        6 => told.log(name, step, &text),
        7 => told.step_end(name, step, true),
        8 => told.finish(name, ContainerStatus::Failed),
        9 => told.finish(name, ContainerStatus::Built),
        _ => told.tell(EventKind::CacheExportStarted {
            container: name.into(),
            reference: text,
        }),
    }
}

proptest! {
    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal(
        events in prop::collection::vec(anything(), 0..60), columns in 0_usize..130, rows in 0_usize..14
    ) {
        let parents = [NAMES[0], NAMES[1]];
        let containers: Vec<(&str, &[&str])> =
            NAMES.iter().enumerate().map(|(n, name)| (*name, &parents[..n.min(2)])).collect();
        let mut told = Told::new(&containers);
        for event in events {
            tell(&mut told, event);
        }
        let view = view(&told, columns, rows);
        let lines = view.lines();
        prop_assert!(lines.len() <= rows.saturating_sub(1));
        for line in lines.iter().chain(&view.built(NAMES[0])) {
            prop_assert_eq!(line.width, cells::width(&line.text));
            prop_assert!(line.width <= columns.saturating_sub(1), "{:?}", line);
            prop_assert!(!line.text.contains(char::is_control), "{:?}", line);
        }
    }
}
