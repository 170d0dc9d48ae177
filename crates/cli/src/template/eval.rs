//! Runs a tree on a value.

use serde_json::Value;

use super::parse::{Base, Node, Operand, Pipe};
use super::print::plain;
use super::{Methods, TemplateError, Types, funcs};

/// Most bytes that a run gives: whole inspections of large swarms fit, a runaway loop does not fill the memory.
const MAX_OUTPUT: usize = 64 << 20;
/// Most steps of a run: nested loops over long lists end at some time.
const MAX_STEPS: usize = 10_000_000;

/// Fields that daemons leave out when they have no value. For Go's clients they exist all the same: there they are nil or empty.
const MAY_BE_ABSENT: &[&str] = &[
    "UpdateStatus",
    "PreviousSpec",
    "ServiceStatus",
    "JobStatus",
    "ManagerStatus",
    "UpdateConfig",
    "RollbackConfig",
    "Labels",
    "Health",
    "Healthcheck",
    "Slot",
    "Err",
    "Message",
    "ContainerStatus",
    "Command",
    "Args",
    "Env",
    "Mounts",
    "Networks",
    "Constraints",
    "Preferences",
    "Platforms",
    "Ports",
    "VirtualIPs",
    "Secrets",
    "Configs",
    "Limits",
    "Reservations",
    "RestartPolicy",
    "Placement",
    "MaxAttempts",
    "Window",
    "Delay",
    "Hostname",
    "User",
    "Dir",
    "Options",
    "Containers",
    "Peers",
    "Services",
    "Leader",
    "Addr",
    "ForceUpdate",
    "Resources",
    "LogDriver",
    "DNSConfig",
    "Hosts",
    "Init",
    "StopSignal",
    "NetworksAttachments",
    "GenericResources",
    "PublishedPort",
    "Error",
    "Cluster",
    "RemoteManagers",
    "StopTimeout",
    "ExposedPorts",
    "Entrypoint",
    "Volumes",
    "Data",
];

/// Why running ended early.
enum Stop {
    Break,
    Continue,
    Failed(TemplateError),
}

impl From<TemplateError> for Stop {
    fn from(e: TemplateError) -> Self {
        Self::Failed(e)
    }
}

struct Run<'a> {
    text: &'a str,
    methods: &'a Methods<'a>,
    types: Option<&'a dyn Types>,
    heading: bool,
    root: &'a Value,
    variables: Vec<(String, Value)>,
    out: String,
    steps: usize,
}

/// Runs nodes on a value; `heading` is for the headings of tables.
pub(super) fn run(
    nodes: &[Node],
    text: &str,
    value: &Value,
    methods: &Methods<'_>,
    types: Option<&dyn Types>,
    heading: bool,
) -> Result<String, TemplateError> {
    let variables = vec![(String::new(), value.clone())];
    let mut run = Run { text, methods, types, heading, root: value, variables, out: String::new(), steps: 0 };
    match run.nodes(nodes, value) {
        // The reader lets break and continue stand in loops only.
        Ok(()) | Err(Stop::Break | Stop::Continue) => Ok(run.out),
        Err(Stop::Failed(e)) => Err(e),
    }
}

impl Run<'_> {
    fn fail(&self, at: usize, what: &str, why: &str) -> TemplateError {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.len() - before.rfind('\n').map_or(0, |i| i + 1);
        TemplateError(format!("template: :{line}:{column}: executing \"\" at <{what}>: {why}"))
    }

    fn written(&self, o: &Operand) -> &str {
        self.text.get(o.at..o.end.max(o.at)).filter(|t| !t.is_empty()).unwrap_or("value")
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), Stop> {
        for node in nodes {
            self.steps += 1;
            if self.steps > MAX_STEPS || self.out.len() > MAX_OUTPUT {
                return Err(TemplateError("template: too much to do".to_owned()).into());
            }
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Show(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.declares.is_empty() {
                        let value = match pipe.commands.as_slice() {
                            [command] if command.len() == 1 => self.shown(&command[0], value),
                            _ => value,
                        };
                        self.out += &plain(&value);
                    }
                }
                Node::If { branches, otherwise, with } => self.branch(branches, otherwise, *with, dot)?,
                Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot)?,
                Node::Break => return Err(Stop::Break),
                Node::Continue => return Err(Stop::Continue),
            }
        }
        Ok(())
    }

    fn branch(&mut self, branches: &[(Pipe, Vec<Node>)], otherwise: &[Node], with: bool, dot: &Value) -> Result<(), Stop> {
        let seen = self.variables.len();
        let mut taken = None;
        for (condition, body) in branches {
            let value = self.pipe(condition, dot)?;
            if funcs::truth(&value) {
                taken = Some((value, body));
                break;
            }
        }
        let done = match taken {
            Some((value, body)) => self.nodes(body, if with { &value } else { dot }),
            None => self.nodes(otherwise, dot),
        };
        self.variables.truncate(seen);
        done
    }

    fn range(&mut self, over: &Pipe, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<(), Stop> {
        let seen = self.variables.len();
        // The variables of the loop are set anew for each item.
        let bare = Pipe { declares: Vec::new(), assigns: false, commands: over.commands.clone() };
        let items: Vec<(Value, Value)> = match self.pipe(&bare, dot)? {
            Value::Array(all) => all.into_iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
            Value::Object(map) => map.into_iter().map(|(k, v)| (k.into(), v)).collect(),
            Value::Null => Vec::new(),
            _ if self.heading => Vec::new(),
            Value::Number(n) if n.is_u64() => {
                let n = usize::try_from(n.as_u64().unwrap_or(0)).unwrap_or(usize::MAX);
                (0..n.min(MAX_STEPS)).map(|i| (i.into(), i.into())).collect()
            }
            other => {
                let at = over.commands.first().and_then(|c| c.first());
                let (at, what) = at.map_or((0, "range"), |o| (o.at, self.written(o)));
                return Err(self.fail(at, what, &format!("range can't iterate over {}", plain(&other))).into());
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in items {
            match over.declares.as_slice() {
                [one] => self.variables.push((one.clone(), value.clone())),
                [first, second] => {
                    self.variables.push((first.clone(), key));
                    self.variables.push((second.clone(), value.clone()));
                }
                _ => {}
            }
            let done = self.nodes(body, &value);
            self.variables.truncate(seen);
            match done {
                Ok(()) | Err(Stop::Continue) => {}
                Err(Stop::Break) => break,
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, TemplateError> {
        let mut value: Option<Value> = None;
        for command in &pipe.commands {
            value = Some(self.command(command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Null);
        for name in &pipe.declares {
            match self.variables.iter_mut().rev().find(|(n, _)| n == name).filter(|_| pipe.assigns) {
                Some((_, old)) => *old = value.clone(),
                None => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(&mut self, operands: &[Operand], dot: &Value, piped: Option<Value>) -> Result<Value, TemplateError> {
        let Some((first, rest)) = operands.split_first() else { return Ok(Value::Null) };
        self.steps += 1;
        if let Base::Function(name) = &first.base {
            if name == "and" || name == "or" {
                return self.short(name == "and", first, rest, dot, piped);
            }
            let mut args = Vec::with_capacity(rest.len() + 1);
            let prints = matches!(name.as_str(), "print" | "printf" | "println");
            for operand in rest {
                let value = self.operand(operand, dot)?;
                args.push(if prints { self.shown(operand, value) } else { value });
            }
            args.extend(piped);
            if let (Some(types), "json", [value]) = (self.types, name.as_str(), args.as_slice()) {
                return Ok(types.json(value).into());
            }
            return funcs::call(name, &args).map_err(|why| self.fail(first.at, name, &format!("error calling {name}: {why}")));
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(piped);
        let on_root = match &first.base {
            Base::Dot => dot == self.root,
            Base::Variable(name) => name.is_empty(),
            _ => false,
        };
        let method = first.fields.first().filter(|_| on_root && first.fields.len() == 1);
        let called = method.and_then(|m| (self.methods)(m, &args));
        called.ok_or_else(|| {
            let what = self.written(first);
            self.fail(first.at, what, "can't give argument to non-function")
        })
    }

    /// A value that was looked up, as it is printed.
    fn shown(&self, operand: &Operand, value: Value) -> Value {
        let typed = self.types.zip(operand.fields.last()).and_then(|(types, field)| types.shown(field, &value));
        typed.unwrap_or(value)
    }

    /// `and` and `or` look at no more than they must.
    fn short(
        &mut self,
        and: bool,
        first: &Operand,
        rest: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value, TemplateError> {
        let mut last = None;
        for operand in rest {
            let value = self.operand(operand, dot)?;
            if funcs::truth(&value) != and {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| self.fail(first.at, "and", "wrong number of args: want at least 1 got 0"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = match &operand.base {
            Base::Dot => dot.clone_for(&operand.fields),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                found.map_or(Value::Null, |(_, v)| v.clone())
            }
            Base::Constant(value) => value.clone(),
            Base::Function(name) => {
                return funcs::call(name, &[])
                    .map_err(|why| self.fail(operand.at, name, &format!("error calling {name}: {why}")));
            }
            Base::Pipe(pipe) => {
                let seen = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                self.variables.truncate(seen);
                value
            }
        };
        let skipped = matches!(operand.base, Base::Dot) && !operand.fields.is_empty();
        for (i, field) in operand.fields.iter().enumerate() {
            let found = if i == 0 && skipped { lookup(dot, field) } else { lookup(&value, field) };
            value = match found {
                Found::Value(v) => v.clone(),
                Found::Absent => Value::Null,
                Found::Nil => {
                    let why = format!("nil pointer evaluating interface {{}}.{field}");
                    return Err(self.fail(operand.at, self.written(operand), &why));
                }
                Found::Unknown(kind) => {
                    let why = format!("can't evaluate field {field} in type {kind}");
                    return Err(self.fail(operand.at, self.written(operand), &why));
                }
            };
        }
        Ok(value)
    }
}

/// A dot whose fields are asked for need not be copied whole.
trait CloneFor {
    fn clone_for(&self, fields: &[String]) -> Value;
}

impl CloneFor for Value {
    fn clone_for(&self, fields: &[String]) -> Value {
        if fields.is_empty() { self.clone() } else { Value::Null }
    }
}

enum Found<'a> {
    Value(&'a Value),
    /// Left out by the daemon, but it exists.
    Absent,
    Nil,
    Unknown(&'static str),
}

/// A field by its name; Go's names and JSON's differ in the case of letters only (`ID` and `Id`).
fn lookup<'a>(value: &'a Value, field: &str) -> Found<'a> {
    match value {
        Value::Object(map) => {
            let found = map.get(field).or_else(|| map.iter().find(|(k, _)| k.eq_ignore_ascii_case(field)).map(|(_, v)| v));
            match found {
                Some(v) => Found::Value(v),
                None if MAY_BE_ABSENT.contains(&field) => Found::Absent,
                None => Found::Unknown("map[string]interface {}"),
            }
        }
        Value::Null => Found::Nil,
        other => Found::Unknown(super::print::kind(other)),
    }
}
