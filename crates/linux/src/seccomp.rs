//! System call filters in Docker's JSON, compiled to classic BPF.
//!
//! The default profile is data (`data/seccomp-default.json`, from moby, Apache-2.0). What it allows depends on the container's
//! capabilities, so a program is compiled for each set that is in use and kept in a file that shims load. Each architecture
//! that the kernel may report (64-bit and its 32-bit sibling) has its own table; numbers that are allowed without condition
//! are searched as ranges in a balanced tree.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Docker's default profile.
pub const DEFAULT_PROFILE: &str = include_str!("../data/seccomp-default.json");

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const LD_ABS: u16 = 0x20;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JGT: u16 = 0x25;
const JA: u16 = 0x05;
const AND: u16 = 0x54;
const RET: u16 = 0x06;
/// Offsets in `struct seccomp_data`.
const OFF_NR: u32 = 0;
const OFF_ARCH: u32 = 4;
const OFF_ARGS: u32 = 16;

/// The profile could not be compiled.
#[derive(Debug, thiserror::Error)]
#[error("compile the seccomp profile: {0}")]
pub struct SeccompError(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    names: Vec<String>,
    /// As profiles had it before `names`.
    #[serde(default)]
    name: Option<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize, Default)]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// One instruction of classic BPF, as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

fn stmt(code: u16, k: u32) -> Insn {
    Insn { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Insn {
    Insn { code, jt, jf, k }
}

/// An architecture as the kernel names it, with the numbers of its calls.
struct Arch {
    audit: u32,
    name: &'static str,
    number: fn(&str) -> Option<u32>,
}

#[cfg(target_arch = "x86_64")]
fn arches() -> Vec<Arch> {
    vec![
        Arch {
            audit: 0xc000_003e,
            name: "amd64",
            number: |n| n.parse::<syscalls::x86_64::Sysno>().ok().and_then(|s| u32::try_from(s.id()).ok()),
        },
        Arch {
            audit: 0x4000_0003,
            name: "x86",
            number: |n| n.parse::<syscalls::x86::Sysno>().ok().and_then(|s| u32::try_from(s.id()).ok()),
        },
    ]
}

#[cfg(target_arch = "aarch64")]
fn arches() -> Vec<Arch> {
    vec![
        Arch {
            audit: 0xc000_00b7,
            name: "arm64",
            number: |n| n.parse::<syscalls::aarch64::Sysno>().ok().and_then(|s| u32::try_from(s.id()).ok()),
        },
        Arch {
            audit: 0x4000_0028,
            name: "arm",
            number: |n| n.parse::<syscalls::arm::Sysno>().ok().and_then(|s| u32::try_from(s.id()).ok()),
        },
    ]
}

impl Rule {
    /// Whether the rule applies to a container with these capabilities on this architecture. The kernel is newer than any
    /// `minKernel` of the profile (4.8), so those always hold.
    fn applies(&self, caps: &BTreeSet<String>, arch: &str) -> bool {
        let included = self.includes.as_ref().is_none_or(|f| {
            f.caps.iter().all(|c| caps.contains(c)) && (f.arches.is_empty() || f.arches.iter().any(|a| a == arch))
        });
        let excluded = self
            .excludes
            .as_ref()
            .is_some_and(|f| f.caps.iter().any(|c| caps.contains(c)) || f.arches.iter().any(|a| a == arch));
        included && !excluded
    }
}

/// What happens to one call: rules of conditions that are tried in turn, or an unconditional action.
#[derive(Default)]
struct Verdict<'a> {
    always: Option<u32>,
    conditions: Vec<(&'a [Arg], u32)>,
}

/// What the kernel is to answer for an action.
fn verdict(action: &str, errno: Option<u32>) -> Result<u32, SeccompError> {
    // EPERM, unless the profile says otherwise.
    let errno = RET_ERRNO | (errno.unwrap_or(1) & 0xffff);
    Ok(match action {
        "SCMP_ACT_ALLOW" => RET_ALLOW,
        "SCMP_ACT_ERRNO" => errno,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => RET_KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => RET_KILL,
        "SCMP_ACT_TRAP" => RET_TRAP,
        "SCMP_ACT_LOG" => RET_LOG,
        other => return Err(SeccompError(format!("action {other} is not known"))),
    })
}

/// Compiles a profile for a container with these capabilities (`CAP_…`). Calls of architectures that the profile's host has
/// not are killed.
///
/// # Errors
/// When the profile is malformed or the program exceeds the kernel's 4096 instructions.
pub fn compile(profile: &str, caps: &BTreeSet<String>) -> Result<Vec<Insn>, SeccompError> {
    let profile: Profile = serde_json::from_str(profile).map_err(|e| SeccompError(e.to_string()))?;
    let deny = verdict(&profile.default_action, profile.default_errno_ret)?;
    let mut program = Vec::new();
    for arch in arches() {
        let body = compile_arch(&profile, caps, &arch, deny)?;
        let len = u32::try_from(body.len()).map_err(|_| SeccompError("program too long".to_owned()))?;
        program.push(stmt(LD_ABS, OFF_ARCH));
        program.push(jump(JEQ, arch.audit, 1, 0));
        program.push(stmt(JA, len));
        program.extend(body);
    }
    program.push(stmt(RET, RET_KILL));
    if program.len() > 4096 {
        return Err(SeccompError(format!("program of {} instructions, the kernel takes 4096", program.len())));
    }
    Ok(program)
}

fn compile_arch(profile: &Profile, caps: &BTreeSet<String>, arch: &Arch, deny: u32) -> Result<Vec<Insn>, SeccompError> {
    let mut verdicts: BTreeMap<u32, Verdict<'_>> = BTreeMap::new();
    for rule in profile.syscalls.iter().filter(|r| r.applies(caps, arch.name)) {
        let action = verdict(&rule.action, rule.errno_ret)?;
        for number in rule.names.iter().chain(&rule.name).filter_map(|n| (arch.number)(n)) {
            let verdict = verdicts.entry(number).or_default();
            match rule.args.as_deref() {
                Some(args) if !args.is_empty() => verdict.conditions.push((args, action)),
                // Of two the milder one: as signed numbers they are in that order.
                _ => {
                    verdict.always =
                        Some(verdict.always.map_or(action, |a| if a.cast_signed() > action.cast_signed() { a } else { action }))
                }
            }
        }
    }
    // Leaves in order of number: ranges of calls that share an unconditional action, and calls with conditions.
    let mut leaves: Vec<(u32, Vec<Insn>)> = vec![(0, vec![stmt(RET, deny)])];
    let mut next = 0;
    for (number, verdict) in &verdicts {
        let code = match verdict.always {
            Some(action) => vec![stmt(RET, action)],
            None => conditions(&verdict.conditions, deny)?,
        };
        if *number > next {
            push_leaf(&mut leaves, next, vec![stmt(RET, deny)]);
        }
        push_leaf(&mut leaves, *number, code);
        next = number + 1;
    }
    push_leaf(&mut leaves, next, vec![stmt(RET, deny)]);
    let mut body = vec![stmt(LD_ABS, OFF_NR)];
    body.extend(tree(&leaves)?);
    Ok(body)
}

fn push_leaf(leaves: &mut Vec<(u32, Vec<Insn>)>, from: u32, code: Vec<Insn>) {
    match leaves.last_mut() {
        Some((_, last)) if *last == code => {}
        Some((start, last)) if *start == from => *last = code,
        _ => leaves.push((from, code)),
    }
}

fn tree(leaves: &[(u32, Vec<Insn>)]) -> Result<Vec<Insn>, SeccompError> {
    match leaves {
        [] => Ok(Vec::new()),
        [(_, code)] => Ok(code.clone()),
        _ => {
            let (low, high) = leaves.split_at(leaves.len() / 2);
            let low_code = tree(low)?;
            let high_code = tree(high)?;
            let skip = u32::try_from(low_code.len()).map_err(|_| SeccompError("program too long".to_owned()))?;
            let mut out = vec![jump(JGE, high[0].0, 0, 1), stmt(JA, skip)];
            out.extend(low_code);
            out.extend(high_code);
            Ok(out)
        }
    }
}

/// Tries each condition in turn; falls to `deny`.
fn conditions(rules: &[(&[Arg], u32)], deny: u32) -> Result<Vec<Insn>, SeccompError> {
    let mut out = Vec::new();
    for (args, action) in rules {
        // Each argument either falls through (holds) or jumps to the end of this rule.
        let mut checks: Vec<Insn> = Vec::new();
        for arg in args.iter().rev() {
            let tail = checks;
            checks = check(arg, tail.len() + 1)?;
            checks.extend(tail);
        }
        out.extend(checks);
        out.push(stmt(RET, *action));
    }
    out.push(stmt(RET, deny));
    Ok(out)
}

/// Code for one comparison of a 64-bit argument: falls through when it holds, else skips `to_end` further instructions.
fn check(arg: &Arg, to_end: usize) -> Result<Vec<Insn>, SeccompError> {
    if arg.index > 5 {
        return Err(SeccompError(format!("a system call has no argument {}, they are 0 to 5", arg.index)));
    }
    let low = OFF_ARGS + arg.index * 8;
    let (value_hi, value_lo) = ((arg.value >> 32) as u32, (arg.value & 0xffff_ffff) as u32);
    let far = |more: usize| u8::try_from(to_end + more).map_err(|_| SeccompError("condition too long".to_owned()));
    Ok(match arg.op.as_str() {
        "SCMP_CMP_EQ" => {
            vec![stmt(LD_ABS, low + 4), jump(JEQ, value_hi, 0, far(2)?), stmt(LD_ABS, low), jump(JEQ, value_lo, 0, far(0)?)]
        }
        "SCMP_CMP_LT" => vec![
            stmt(LD_ABS, low + 4),
            jump(JGT, value_hi, far(3)?, 0),
            jump(JEQ, value_hi, 0, 2),
            stmt(LD_ABS, low),
            jump(JGE, value_lo, far(0)?, 0),
        ],
        "SCMP_CMP_GT" => vec![
            stmt(LD_ABS, low + 4),
            jump(JGT, value_hi, 3, 0),
            jump(JEQ, value_hi, 0, far(2)?),
            stmt(LD_ABS, low),
            jump(JGT, value_lo, 0, far(0)?),
        ],
        "SCMP_CMP_GE" => vec![
            stmt(LD_ABS, low + 4),
            jump(JGT, value_hi, 3, 0),
            jump(JEQ, value_hi, 0, far(2)?),
            stmt(LD_ABS, low),
            jump(JGE, value_lo, 0, far(0)?),
        ],
        "SCMP_CMP_LE" => vec![
            stmt(LD_ABS, low + 4),
            jump(JGT, value_hi, far(3)?, 0),
            jump(JEQ, value_hi, 0, 2),
            stmt(LD_ABS, low),
            jump(JGT, value_lo, far(0)?, 0),
        ],
        "SCMP_CMP_NE" => {
            vec![stmt(LD_ABS, low + 4), jump(JEQ, value_hi, 0, 2), stmt(LD_ABS, low), jump(JEQ, value_lo, far(0)?, 0)]
        }
        "SCMP_CMP_MASKED_EQ" => {
            let (want_hi, want_lo) = ((arg.value_two >> 32) as u32, (arg.value_two & 0xffff_ffff) as u32);
            vec![
                stmt(LD_ABS, low + 4),
                stmt(AND, value_hi),
                jump(JEQ, want_hi, 0, far(3)?),
                stmt(LD_ABS, low),
                stmt(AND, value_lo),
                jump(JEQ, want_lo, 0, far(0)?),
            ]
        }
        other => return Err(SeccompError(format!("comparison {other} is not known"))),
    })
}

/// The program as bytes for a file.
#[must_use]
pub fn to_bytes(program: &[Insn]) -> Vec<u8> {
    let mut out = Vec::with_capacity(program.len() * 8);
    for i in program {
        out.extend_from_slice(&i.code.to_ne_bytes());
        out.extend_from_slice(&[i.jt, i.jf]);
        out.extend_from_slice(&i.k.to_ne_bytes());
    }
    out
}

/// The program of a file; `None` if its length is not a whole number of instructions.
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> Option<Vec<Insn>> {
    let (chunks, []) = bytes.as_chunks::<8>() else { return None };
    let insn = |c: &[u8; 8]| Insn {
        code: u16::from_ne_bytes([c[0], c[1]]),
        jt: c[2],
        jf: c[3],
        k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
    };
    Some(chunks.iter().map(insn).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(program: &[Insn], arch: u32, nr: u32, args: [u64; 6]) -> u32 {
        let (mut pc, mut acc) = (0usize, 0u32);
        loop {
            let i = program[pc];
            pc += 1;
            match i.code {
                LD_ABS => {
                    acc = match i.k {
                        OFF_NR => nr,
                        OFF_ARCH => arch,
                        k => {
                            let at = (k - OFF_ARGS) as usize;
                            let value = args[at / 8];
                            if at.is_multiple_of(8) { (value & 0xffff_ffff) as u32 } else { (value >> 32) as u32 }
                        }
                    }
                }
                AND => acc &= i.k,
                JA => pc += i.k as usize,
                RET => return i.k,
                JEQ => pc += usize::from(if acc == i.k { i.jt } else { i.jf }),
                JGE => pc += usize::from(if acc >= i.k { i.jt } else { i.jf }),
                JGT => pc += usize::from(if acc > i.k { i.jt } else { i.jf }),
                other => panic!("unexpected {other:#x}"),
            }
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_profile_of_a_users_own_is_obeyed() {
        use syscalls::x86_64::Sysno;
        let rule = |op: &str, value: u64| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                    {{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}},
                    {{"name": "reboot", "action": "SCMP_ACT_KILL_PROCESS"}},
                    {{"names": ["personality"], "action": "SCMP_ACT_LOG",
                      "args": [{{"index": 0, "value": {value}, "op": "{op}"}}]}}]}}"#
            )
        };
        let none = BTreeSet::new();
        let big = 0x1_0000_0005_u64;
        for (op, holds) in [
            ("SCMP_CMP_EQ", [false, true, false]),
            ("SCMP_CMP_NE", [true, false, true]),
            ("SCMP_CMP_LT", [true, false, false]),
            ("SCMP_CMP_LE", [true, true, false]),
            ("SCMP_CMP_GE", [false, true, true]),
            ("SCMP_CMP_GT", [false, false, true]),
        ] {
            let program = compile(&rule(op, big), &none).expect("compiles");
            let answer = |s: Sysno, arg: u64| run(&program, 0xc000_003e, s.id() as u32, [arg, 0, 0, 0, 0, 0]);
            assert_eq!(answer(Sysno::read, 0), RET_ALLOW);
            assert_eq!(answer(Sysno::chmod, 0), RET_ERRNO | 13);
            assert_eq!(answer(Sysno::reboot, 0), RET_KILL);
            // Equal but for one half of the number, too.
            for (less, more) in [(big - 1, big + 1), (5, big + (1 << 32))] {
                let got = [less, big, more].map(|v| answer(Sysno::personality, v) == RET_LOG);
                assert_eq!(got, holds, "{op} {less:#x} {more:#x}");
            }
        }
        for bad in
            ["{}", r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, &rule("SCMP_CMP_EQ", 0).replace("\"index\": 0", "\"index\": 6")]
        {
            assert!(compile(bad, &none).is_err(), "{bad}");
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_default_profile_allows_and_denies_as_docker_does() {
        use syscalls::x86_64::Sysno;
        let program = compile(DEFAULT_PROFILE, &BTreeSet::new()).expect("compiles");
        let x64 = |s: Sysno, args: [u64; 6]| run(&program, 0xc000_003e, s.id() as u32, args);
        let eperm = RET_ERRNO | 1;
        assert_eq!(x64(Sysno::read, [0; 6]), RET_ALLOW);
        assert_eq!(x64(Sysno::reboot, [0; 6]), eperm);
        assert_eq!(x64(Sysno::bpf, [0; 6]), eperm);
        assert_eq!(x64(Sysno::clone3, [0; 6]), RET_ERRNO | 38);
        assert_eq!(x64(Sysno::socket, [2, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(x64(Sysno::socket, [38, 0, 0, 0, 0, 0]), eperm, "AF_ALG");
        assert_eq!(x64(Sysno::socket, [40, 0, 0, 0, 0, 0]), eperm, "AF_VSOCK");
        assert_eq!(x64(Sysno::socket, [44, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(x64(Sysno::personality, [0, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(x64(Sysno::personality, [1, 0, 0, 0, 0, 0]), eperm);
        assert_eq!(x64(Sysno::clone, [0x1200011, 0, 0, 0, 0, 0]), RET_ALLOW);
        assert_eq!(x64(Sysno::clone, [0x1000_0000, 0, 0, 0, 0, 0]), eperm, "CLONE_NEWUSER");
        assert_eq!(run(&program, 0x4000_0003, 3, [0; 6]), RET_ALLOW, "32-bit read");
        assert_eq!(run(&program, 0x1234, 0, [0; 6]), RET_KILL, "unknown architecture");
        let admin = compile(DEFAULT_PROFILE, &BTreeSet::from(["CAP_SYS_ADMIN".to_owned()])).expect("compiles");
        assert_eq!(run(&admin, 0xc000_003e, Sysno::mount.id() as u32, [0; 6]), RET_ALLOW);
        assert_eq!(from_bytes(&to_bytes(&program)), Some(program));
    }
}
