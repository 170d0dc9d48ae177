//! What templates do, as Go's own do it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn data() -> Value {
    json!({
        "ID": "abc", "Name": "web", "N": 3, "F": 1.5, "On": true, "Nil": null, "Empty": "",
        "Tags": ["a", "b", "c"], "Labels": {"x": "1", "y.z": "2"}, "Spec": {"Image": "nginx:1", "Args": []},
    })
}

fn run(text: &str) -> String {
    Template::parse(text)
        .and_then(|t| t.run(&data(), &|name, args| (name == "Label").then(|| json!(format!("label {}", args[0])))))
        .unwrap_or_else(|e| e.to_string())
}

#[test]
fn actions() {
    for (template, want) in [
        ("plain", "plain"),
        ("{{.ID}}: {{.Name}}", "abc: web"),
        ("{{.id}}", "abc"),
        ("{{.Spec.Image}}", "nginx:1"),
        ("{{.Tags}} {{.Labels}} {{.N}} {{.F}} {{.On}}", "[a b c] map[x:1 y.z:2] 3 1.5 true"),
        ("{{json .Tags}}", "[\"a\",\"b\",\"c\"]"),
        ("{{index .Labels \"y.z\"}} {{index .Tags 1}}", "2 b"),
        ("{{.Name | upper | printf \"<%s>\"}}", "<WEB>"),
        ("{{printf \"%5d|%-5s|%05d|%q|%.2f|%v%%\" .N .Name .N .Name .F .On}}", "    3|web  |00003|\"web\"|1.50|true%"),
        ("{{if and .On (gt .N 2)}}yes{{else}}no{{end}}", "yes"),
        ("{{if not .On}}a{{else if eq .Name \"x\" \"web\"}}b{{else}}c{{end}}", "b"),
        ("{{with .Spec}}{{.Image}} {{$.Name}}{{end}}", "nginx:1 web"),
        ("{{with .Empty}}a{{else}}b{{end}}", "b"),
        ("{{range .Tags}}[{{.}}]{{end}}", "[a][b][c]"),
        ("{{range $i, $t := .Tags}}{{if $i}},{{end}}{{$i}}={{$t}}{{end}}", "0=a,1=b,2=c"),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}} {{end}}", "x:1 y.z:2 "),
        ("{{range .Spec.Args}}x{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .Tags}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{$x := 1}}{{range .Tags}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("a {{- .ID -}} b", "aabcb"),
        ("a{{/* note */}}b{{- /* note */ -}} c", "abc"),
        ("{{len .Tags}} {{len .Name}}", "3 3"),
        ("{{join .Tags \"-\"}} {{split \"a:b\" \":\"}} {{title \"ab cd\"}} {{lower \"AB\"}}", "a-b-c [a b] Ab Cd ab"),
        ("[{{pad .Name 1 2}}] {{truncate .Name 2}}", "[ web  ] we"),
        ("{{slice .Name 1 2}}{{slice .Tags 1}}", "e[b c]"),
        ("{{print 1 2 \"a\" 3}}", "1 2a3"),
        ("{{println .Name}}", "web\n"),
        ("{{.Label \"x\"}}", "label \"x\""),
        ("{{or .Empty .Name}} {{and .Name .Empty}}", "web "),
        ("{{(index .Tags 0) | upper}}", "A"),
        ("{{`raw \"x\"`}}", "raw \"x\""),
        ("{{html \"<a>\"}} {{urlquery \"a b&c\"}}", "&lt;a&gt; a+b%26c"),
        ("{{.Nil}}", "<no value>"),
        ("{{.UpdateStatus}}", "<no value>"),
    ] {
        assert_eq!(run(template), want, "{template}");
    }
}

#[test]
fn errors_are_go_s() {
    for (template, want) in [
        ("{{.Foo}}", "template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type map[string]interface {}"),
        ("{{.Name.X}}", "template: :1:2: executing \"\" at <.Name.X>: can't evaluate field X in type string"),
        (
            "{{.UpdateStatus.State}}",
            "template: :1:2: executing \"\" at <.UpdateStatus.State>: nil pointer evaluating interface {}.State",
        ),
        ("{{.ID}", "template: :1: bad character U+007D '}'"),
        ("{{.ID", "template: :1: unclosed action"),
        ("\n{{foo}}", "template: :2: function \"foo\" not defined"),
        ("{{if .ID}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("{{$x}}", "template: :1: undefined variable \"$x\""),
        ("{{}}", "template: :1: missing value for command"),
        ("{{.ID | }}", "template: :1: missing value for command"),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        (
            "{{index .Tags 9}}",
            "template: :1:2: executing \"\" at <index>: error calling index: reflect: slice index out of range: 9",
        ),
    ] {
        assert_eq!(run(template), want, "{template}");
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = format!("{}x{}", "{{if .ID}}".repeat(100), "{{end}}".repeat(100));
    assert!(run(&deep).contains("nested too deeply"));
    let parens = format!("{{{{{}.ID{}}}}}", "(".repeat(100), ")".repeat(100));
    assert!(run(&parens).contains("nested too deeply"));
    assert!(run(&"x".repeat(70_000)).contains("longer than"));
    assert!(run("{{printf \"%99999999d\" 1}}").len() < 2000);
}

proptest! {
    /// Whatever is typed, there is an answer.
    #[test]
    fn never_panics(text in "\\PC{0,60}") {
        let _ = run(&text);
    }

    /// The same for what looks like a template.
    #[test]
    fn never_panics_on_words(words in prop::collection::vec(prop::sample::select(vec![
        "{{", "}}", "{{-", "-}}", " ", ".", ".ID", ".Tags", "$", "$x", ":=", "=", "|", "(", ")", "if ", "range ", "with ", "end",
        "else", "\"a\"", "`b`", "1", "-2", "0x1f", "1.5", "index ", "len ", "slice ", "printf ", "\"%5d%\"", "json ", ",", "and ",
        "or ", "not ", "eq ", "lt ", "truncate ", "pad ", "join ", "split ", "ä", "'c'", "/*", "*/", "break", "nil ", "true ",
    ]), 0..24)) {
        let _ = run(&words.concat());
    }
}
