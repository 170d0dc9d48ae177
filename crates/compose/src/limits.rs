//! What a set of compose files may cost at most. Each bound is far above any file that people write and far below what would
//! hurt the machine that reads it.

/// Longest file, in bytes: compose files, `.env`, `env_file` and `label_file`. Files of hundreds of services are under 200 KiB.
pub const FILE_BYTES: usize = 1 << 20;
/// Longest secret, in bytes, as Docker's API has it (`swarm-semantics` 2.4).
pub const SECRET_BYTES: usize = 511_999;
/// Longest config, in bytes (`swarm-semantics` 2.4).
pub const CONFIG_BYTES: usize = 1_023_999;
/// Deepest nesting of lists and mappings; the format needs about ten. It also bounds the stack of every walk over the tree.
pub const DEPTH: usize = 48;
/// Most nodes of all files together after aliases, `extends` and `include`: alias bombs end here.
pub const NODES: usize = 400_000;
/// Most bytes of text in those nodes, variables put in.
pub const TEXT_BYTES: usize = 32 << 20;
/// Most files of one load, `include` and `extends` counted.
pub const FILES: usize = 200;
/// Deepest chain of `include` and of `extends`.
pub const CHAIN: usize = 24;
/// Deepest nesting of defaults in one variable: `${A:-${B:-…}}`.
pub const DEFAULTS: usize = 16;
/// Most ports that one range may stand for: all that there are.
pub const PORT_RANGE: u32 = 65_536;
/// Most ports of one service, ranges counted.
pub const PORTS: usize = 65_536;
/// Most errors that are told at once; people mend the first few and try again.
pub const FAULTS: usize = 20;
/// Most warnings that are kept.
pub const WARNINGS: usize = 200;
