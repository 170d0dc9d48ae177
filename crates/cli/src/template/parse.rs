//! Pieces become a tree.

use serde_json::{Number, Value};

use super::TemplateError;
use super::funcs;
use super::lex::{Piece, Spot, Token, error, pieces};

/// How deep blocks and parentheses may lie: reading and running them recurses, and nobody writes more.
const MAX_DEPTH: usize = 64;

/// A part of a template.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Show(Pipe),
    /// Branches with their conditions, then what holds otherwise; `with` sets the dot.
    If {
        branches: Vec<(Pipe, Vec<Node>)>,
        otherwise: Vec<Node>,
        with: bool,
    },
    Range {
        over: Pipe,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// Commands, each given the result of the one before; and the variables that get the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipe {
    pub(super) declares: Vec<String>,
    pub(super) assigns: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// A value in a command.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) base: Base,
    /// Fields looked up in it.
    pub(super) fields: Vec<String>,
    /// Where it stands, and how it was written.
    pub(super) at: usize,
    pub(super) end: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Base {
    Dot,
    Variable(String),
    Function(String),
    Constant(Value),
    Pipe(Pipe),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = pieces(text)?;
    let mut parser = Parser { text, pieces: pieces.into_iter(), depth: 0, loops: 0, variables: vec!["".to_owned()] };
    let (nodes, end) = parser.block()?;
    match end {
        Closing::File => Ok(nodes),
        Closing::End(at) => Err(error(text, at, "unexpected {{end}}")),
        Closing::Else(at, _) => Err(error(text, at, "unexpected {{else}}")),
    }
}

/// What a block ends with.
enum Closing {
    File,
    End(usize),
    Else(usize, Vec<Spot>),
}

struct Parser<'a> {
    text: &'a str,
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
    loops: usize,
    /// Names of the variables in view; the empty one is `$`.
    variables: Vec<String>,
}

impl Parser<'_> {
    fn fail<T>(&self, at: usize, why: &str) -> Result<T, TemplateError> {
        Err(error(self.text, at, why))
    }

    fn deeper(&mut self, at: usize) -> Result<(), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.fail(at, "nested too deeply") } else { Ok(()) }
    }

    fn block(&mut self) -> Result<(Vec<Node>, Closing), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (spots, at) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(spots, at) => (spots, at),
            };
            let keyword = match spots.first().map(|s| &s.token) {
                Some(Token::Word(w)) => w.clone(),
                None => return self.fail(at, "missing value for command"),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" if spots.len() == 1 => return Ok((nodes, Closing::End(at))),
                "end" => return self.fail(at, "unexpected text in end"),
                "else" => return Ok((nodes, Closing::Else(at, spots[1..].to_vec()))),
                "if" | "with" => nodes.push(self.branches(&spots[1..], at, &keyword)?),
                "range" => nodes.push(self.range(&spots[1..], at)?),
                "break" | "continue" if self.loops == 0 => {
                    return self.fail(at, &format!("{{{{{keyword}}}}} outside {{{{range}}}}"));
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "define" | "template" | "block" => return self.fail(at, &format!("{{{{{keyword}}}}} is not supported here")),
                _ => nodes.push(Node::Show(self.pipeline(&spots, at, "command")?)),
            }
        }
        Ok((nodes, Closing::File))
    }

    fn branches(&mut self, spots: &[Spot], at: usize, keyword: &str) -> Result<Node, TemplateError> {
        self.deeper(at)?;
        let seen = self.variables.len();
        let mut branches = Vec::new();
        let mut condition = self.pipeline(spots, at, keyword)?;
        let with = keyword == "with";
        let otherwise = loop {
            let (body, end) = self.block()?;
            branches.push((std::mem::take(&mut condition), body));
            match end {
                Closing::End(_) => break Vec::new(),
                Closing::File => return self.fail(self.text.len(), "unexpected EOF"),
                Closing::Else(at, spots) => match spots.first().map(|s| &s.token) {
                    None => {
                        let (body, end) = self.block()?;
                        match end {
                            Closing::End(_) => break body,
                            Closing::File => return self.fail(self.text.len(), "unexpected EOF"),
                            Closing::Else(at, _) => return self.fail(at, "expected end; found {{else}}"),
                        }
                    }
                    Some(Token::Word(w)) if w == keyword => condition = self.pipeline(&spots[1..], at, keyword)?,
                    Some(_) => return self.fail(at, "unexpected words in {{else}}"),
                },
            }
        };
        self.variables.truncate(seen);
        self.depth -= 1;
        Ok(Node::If { branches, otherwise, with })
    }

    fn range(&mut self, spots: &[Spot], at: usize) -> Result<Node, TemplateError> {
        self.deeper(at)?;
        let seen = self.variables.len();
        let over = self.pipeline(spots, at, "range")?;
        self.loops += 1;
        let (body, end) = self.block()?;
        self.loops -= 1;
        let otherwise = match end {
            Closing::End(_) => Vec::new(),
            Closing::File => return self.fail(self.text.len(), "unexpected EOF"),
            Closing::Else(..) => match self.block()? {
                (nodes, Closing::End(_)) => nodes,
                _ => return self.fail(self.text.len(), "unexpected EOF"),
            },
        };
        self.variables.truncate(seen);
        self.depth -= 1;
        Ok(Node::Range { over, body, otherwise })
    }

    /// `$a, $b := command | command`.
    fn pipeline(&mut self, spots: &[Spot], at: usize, context: &str) -> Result<Pipe, TemplateError> {
        let mut pipe = Pipe::default();
        let mut rest = spots;
        let sets = spots.iter().position(|s| matches!(s.token, Token::Declare | Token::Assign));
        if let Some(sets) = sets {
            pipe.assigns = spots[sets].token == Token::Assign;
            for (i, spot) in spots[..sets].iter().enumerate() {
                match &spot.token {
                    Token::Variable(name) if i % 2 == 0 => pipe.declares.push(name.clone()),
                    Token::Comma if i % 2 == 1 => {}
                    _ => return self.fail(spot.at, "unexpected \":=\" in operand"),
                }
            }
            if pipe.declares.is_empty() || pipe.declares.len() > if context == "range" { 2 } else { 1 } {
                return self.fail(at, &format!("too many declarations in {context}"));
            }
            for name in pipe.declares.iter().filter(|_| pipe.assigns) {
                if !self.variables.contains(name) {
                    return self.fail(at, &format!("undefined variable \"${name}\""));
                }
            }
            rest = &spots[sets + 1..];
        }
        let mut start = 0;
        let mut open = 0_usize;
        for i in 0..=rest.len() {
            match rest.get(i).map(|s| &s.token) {
                Some(Token::Open) => open += 1,
                Some(Token::Close) if open == 0 => return self.fail(rest[i].at, "unexpected right paren"),
                Some(Token::Close) => open -= 1,
                Some(Token::Pipe) if open > 0 => {}
                None if open > 0 => return self.fail(at, "unclosed left paren"),
                Some(Token::Pipe) | None => {
                    pipe.commands.push(self.command(&rest[start..i], at, context)?);
                    start = i + 1;
                }
                _ => {}
            }
        }
        for later in pipe.commands.iter().skip(1) {
            let callable = later.first().is_some_and(|o| !matches!(o.base, Base::Constant(_)));
            if !callable {
                return self.fail(at, "non executable command in pipeline");
            }
        }
        if !pipe.assigns {
            self.variables.extend(pipe.declares.iter().cloned());
        }
        Ok(pipe)
    }

    fn command(&mut self, spots: &[Spot], at: usize, context: &str) -> Result<Vec<Operand>, TemplateError> {
        let mut operands: Vec<Operand> = Vec::new();
        let mut i = 0;
        while let Some(spot) = spots.get(i) {
            i += 1;
            // A field right behind a value belongs to it: `$x.A.B`, `(f).A`.
            if let (Token::Field(name), true, Some(last)) = (&spot.token, spot.glued, operands.last_mut()) {
                if name.is_empty() || matches!(last.base, Base::Constant(_) | Base::Function(_)) {
                    return self.fail(spot.at, "unexpected . after term");
                }
                last.fields.push(name.clone());
                last.end = spot.at + 1 + name.len();
                continue;
            }
            let constant = |v: Value| Base::Constant(v);
            let mut fields = Vec::new();
            let mut end = spot.at;
            let base = match &spot.token {
                Token::Field(name) => {
                    end += 1 + name.len();
                    if !name.is_empty() {
                        fields.push(name.clone());
                    }
                    Base::Dot
                }
                Token::Variable(name) => {
                    end += 1 + name.len();
                    if !self.variables.contains(name) {
                        return self.fail(spot.at, &format!("undefined variable \"${name}\""));
                    }
                    Base::Variable(name.clone())
                }
                Token::Text(text) => constant(Value::String(text.clone())),
                Token::Number(n) => constant(Value::Number(Number::clone(n))),
                Token::Word(w) => match w.as_str() {
                    "true" => constant(Value::Bool(true)),
                    "false" => constant(Value::Bool(false)),
                    "nil" => constant(Value::Null),
                    name if funcs::known(name) => {
                        end += name.len();
                        Base::Function(name.to_owned())
                    }
                    name => return self.fail(spot.at, &format!("function {name:?} not defined")),
                },
                Token::Open => {
                    let close = closing(&spots[i..]).map(|n| n + i);
                    let Some(close) = close else { return self.fail(spot.at, "unclosed left paren") };
                    self.deeper(spot.at)?;
                    let inner = self.pipeline(&spots[i..close], spot.at, "parenthesized pipeline")?;
                    self.depth -= 1;
                    end = spots[close].at + 1;
                    i = close + 1;
                    Base::Pipe(inner)
                }
                Token::Close => return self.fail(spot.at, "unexpected right paren"),
                Token::Comma => return self.fail(spot.at, "unexpected \",\" in operand"),
                Token::Pipe | Token::Declare | Token::Assign => return self.fail(spot.at, "unexpected operator in operand"),
            };
            operands.push(Operand { base, fields, at: spot.at, end });
        }
        if operands.is_empty() { self.fail(at, &format!("missing value for {context}")) } else { Ok(operands) }
    }
}

/// Where the parenthesis closes that was opened just before.
fn closing(spots: &[Spot]) -> Option<usize> {
    let mut open = 1_usize;
    spots.iter().position(|s| {
        match s.token {
            Token::Open => open += 1,
            Token::Close => open -= 1,
            _ => {}
        }
        open == 0
    })
}
