//! Completions as shells use them, and man pages.

use std::process::Command;

use skep_e2e::Run;
use skep_e2e::bed::binary;

/// Runs a shell's script with our binary found first.
fn shell(program: &str, script: &str) -> Option<Run> {
    let path = binary().parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    let path = format!("{path}:{}", std::env::var("PATH").unwrap_or_default());
    Command::new(program).arg("--version").output().ok()?;
    Some(Run::of(Command::new(program).args(["-c", script]).env("PATH", path).current_dir("/")))
}

#[test]
fn shells_complete_commands() {
    // What each shell would offer for `skep node p`; a file, where no command fits.
    let bash =
        "source <(skep completion bash); COMP_WORDS=(skep node p); COMP_CWORD=2; _skep; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let zsh = "compdef() { :; }; source <(skep completion zsh); compadd() { print -rl -- $all; }; words=(skep node p); CURRENT=3; _skep";
    let fish = "skep completion fish | source; complete -C 'skep node p'";
    for (program, script) in [("bash", bash), ("zsh", zsh), ("fish", fish)] {
        let Some(run) = shell(program, script) else {
            skep_testkit::skip(&format!("needs {program}"));
            continue;
        };
        assert_eq!(run.ok().lines().collect::<Vec<_>>(), ["promote", "ps"], "{program}");
    }
    if let Some(run) = shell("fish", "skep completion fish | source; complete -C 'skep stack deploy -c /etc/host'") {
        let offered = run.ok();
        assert!(offered.lines().any(|l| l.starts_with("/etc/hosts")), "{offered}");
    }
}

#[test]
fn each_command_has_a_man_page() {
    let dir = std::env::temp_dir().join(format!("skep-man-{}", std::process::id()));
    let _ = Run::of(Command::new(binary()).arg("man").arg(&dir)).ok();
    let page = std::fs::read_to_string(dir.join("skep-service-create.1")).expect("a page");
    let pages = std::fs::read_dir(&dir).expect("pages").count();
    std::fs::remove_dir_all(&dir).expect("removed");
    assert!(page.contains("\\-\\-replicas") && page.contains(".SH EXAMPLES"), "{page}");
    assert!(pages > 100, "{pages} pages");
}
