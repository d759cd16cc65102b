use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use serde_json::{Value, json};

use super::*;

const STYLE: Style = Style {
    colour: false,
    unicode: true,
    width: None,
};

fn pool(name: &str, tier: &str, status: &Value) -> ComputePool {
    serde_json::from_value(json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "ComputePool", "metadata": {"name": name},
        "spec": {"tier": tier, "class": format!("class-of-{name}"), "costPerNodeHour": "1"}, "status": status,
    }))
    .unwrap()
}

fn ready(nodes: i32, replicas: i32, cost: &str, free: &str, room: &str) -> Value {
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "X", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    json!({"nodes": nodes, "readyNodes": nodes, "replicas": replicas, "costPerHour": cost, "free": free,
        "conditions": [condition("Ready", "True"), condition("CapacityAvailable", room)]})
}

fn seen() -> (Vec<TieredPipeline>, [ComputePool; 3]) {
    let stage = |name: &str| {
        json!({"name": name, "replicas": {"min": 0}, "container": {"image": "i",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}})
    };
    let pipeline = serde_json::from_value(json!({
        "apiVersion": "tiercel.dev/v1alpha1", "kind": "TieredPipeline", "metadata": {"name": "chat", "namespace": "rag"},
        "spec": {"stages": [stage("retrieve"), stage("generate"), stage("rerank")]},
        "status": {"replicas": 12, "readyReplicas": 11, "costPerHour": "14.05", "stages": [
            {"name": "retrieve", "replicas": 2, "readyReplicas": 2, "pools": [{"name": "x86", "replicas": 2, "ready": 2}]},
            {"name": "generate", "replicas": 10, "readyReplicas": 9, "bottleneck": true,
                "pools": [{"name": "l4", "replicas": 10, "ready": 9}]},
            {"name": "rerank", "replicas": 0, "readyReplicas": 0},
        ]},
    }));
    let pools = [
        pool("x86", "CPU", &ready(3, 2, "2.42", "170Gi of 178Gi memory", "True")),
        pool(
            "l4",
            "Accelerator",
            &ready(10, 10, "9.78", "0 of 10 nvidia.com/gpu", "False"),
        ),
        pool("inferentia", "Accelerator", &Value::Null),
    ];
    (vec![pipeline.unwrap()], pools)
}

fn shown() -> Picture {
    let (pipelines, pools) = seen();
    picture(pipelines, &pools, STYLE)
}

#[test]
fn programs_get_what_the_tables_are_made_of() {
    let (pipelines, pools) = seen();
    let document = Format::Yaml.document(&overview(&pipelines, &pools)).unwrap();
    insta::assert_snapshot!(document.unwrap());
}

fn press(screen: &mut Screen, codes: &[KeyCode]) -> Flow {
    let picture = shown();
    let mut flow = Flow::Stay;
    for code in codes {
        flow = screen.key(KeyEvent::new(*code, KeyModifiers::NONE), &picture);
    }
    flow
}

fn drawn(screen: &mut Screen, columns: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, 14)).unwrap();
    let picture = shown();
    terminal.draw(|frame| screen.draw(frame, &picture, STYLE)).unwrap();
    terminal.backend().to_string()
}

fn column(text: &str, from: usize, lines: std::ops::Range<usize>) -> Vec<String> {
    let words = text.lines().skip(lines.start).take(lines.len());
    words
        .map(|line| {
            line.trim_matches('"')
                .split_whitespace()
                .nth(from)
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[test]
fn both_tables_fit_a_narrow_terminal() {
    insta::assert_snapshot!(drawn(&mut Screen::default(), 80));
}

#[test]
fn both_tables_in_a_wide_terminal() {
    insta::assert_snapshot!(drawn(&mut Screen::default(), 120));
}

#[test]
fn in_a_pipe_both_tables_come_once() {
    insta::assert_snapshot!(plain(&shown(), STYLE));
}

#[test]
fn keys_sort_and_reverse() {
    let mut screen = Screen::default();
    assert_eq!(column(&drawn(&mut screen, 120), 0, 2..5), ["inferentia", "l4", "x86"]);
    // The seventh column is the cost; what is not known comes last.
    press(&mut screen, &[KeyCode::Char('>'); 7]);
    assert_eq!(column(&drawn(&mut screen, 120), 0, 2..5), ["x86", "l4", "inferentia"]);
    press(&mut screen, &[KeyCode::Char('r')]);
    assert_eq!(column(&drawn(&mut screen, 120), 0, 2..5), ["inferentia", "l4", "x86"]);
    // Past either end the order is as they came.
    press(
        &mut screen,
        &[KeyCode::Char('r'), KeyCode::Char('>'), KeyCode::Char('>')],
    );
    assert_eq!(column(&drawn(&mut screen, 120), 0, 2..5), ["inferentia", "l4", "x86"]);
}

#[test]
fn keys_filter_one_table_until_escape() {
    let mut screen = Screen::default();
    press(
        &mut screen,
        &[
            KeyCode::Tab,
            KeyCode::Char('/'),
            KeyCode::Char('G'),
            KeyCode::Char('e'),
            KeyCode::Char('q'),
        ],
    );
    let text = drawn(&mut screen, 100);
    assert!(text.contains("filter: Geq_") && !text.contains("generate"), "{text}");
    press(&mut screen, &[KeyCode::Backspace, KeyCode::Enter]);
    let text = drawn(&mut screen, 100);
    assert!(
        text.contains("generate") && !text.contains("retrieve") && text.contains("x86"),
        "{text}"
    );
    press(&mut screen, &[KeyCode::Esc]);
    assert!(drawn(&mut screen, 100).contains("retrieve"));
    assert_eq!(press(&mut screen, &[KeyCode::Char('q')]), Flow::Leave);
}

#[test]
fn control_c_leaves_also_while_a_filter_is_typed() {
    let mut screen = Screen::default();
    press(&mut screen, &[KeyCode::Char('/')]);
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(screen.key(interrupt, &shown()), Flow::Leave);
}

#[test]
fn whatever_is_pressed_in_whatever_terminal_nothing_breaks() {
    let mut screen = Screen::default();
    let keys = [
        KeyCode::Down,
        KeyCode::End,
        KeyCode::PageDown,
        KeyCode::PageUp,
        KeyCode::Up,
        KeyCode::Home,
        KeyCode::Left,
        KeyCode::Tab,
        KeyCode::F(1),
        KeyCode::Backspace,
    ];
    for (at, key) in keys.iter().cycle().take(60).enumerate() {
        press(&mut screen, &[*key]);
        let columns = u16::try_from(at * 3 + 1).unwrap();
        drawn(&mut screen, columns);
    }
}
