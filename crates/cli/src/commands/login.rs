//! `login` and `logout`: a user's credentials, tried at the registry by the daemon and kept for later calls.

use std::io::{IsTerminal, Read};

use serde_json::json;

use crate::app::{App, Failure};
use crate::config::auth;
use crate::grammar::{Arity, Command, Matches};
use crate::output::{note, print, warn};
use crate::terminal;

/// Longest password: tokens are some kilobytes.
const MAX_PASSWORD: u64 = 64 << 10;

const FLAGS: &str = "
    -p --password string Password or token (others on this machine can see it: use --password-stdin)
    --password-stdin bool Take the password from standard input
    -u --username string User name";

/// `login`.
pub(super) const LOGIN: Command =
    Command::new("login", "[OPTIONS] [SERVER]", "Authenticate to a registry", Arity::AtMost(1), &[FLAGS], |a, m| {
        Box::pin(login(a, m))
    })
    .shown(&["login registry.example:5000", "login -u me --password-stdin registry.example < token"]);
/// `logout`.
pub(super) const LOGOUT: Command =
    Command::new("logout", "[SERVER]", "Log out from a registry", Arity::AtMost(1), &[], |a, m| Box::pin(logout(a, m)));

/// The registry that is meant, as credentials name it.
fn server(given: &str) -> &str {
    match auth::bare(given) {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => auth::HUB,
        host => host,
    }
}

/// User name and password as flags and standard input have them; what is empty was not given.
fn given(m: &Matches) -> Result<(String, String), Failure> {
    let user = m.text_or_empty("username").trim().to_owned();
    if !m.on("password-stdin") {
        if m.given("password") {
            warn("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        }
        return Ok((user, m.text_or_empty("password").to_owned()));
    }
    if m.given("password") {
        return Err(Failure::new("--password and --password-stdin are mutually exclusive"));
    }
    if user.is_empty() {
        return Err(Failure::new("Must provide --username with --password-stdin"));
    }
    let mut password = String::new();
    let read = std::io::stdin().lock().take(MAX_PASSWORD).read_to_string(&mut password);
    read.map_err(|e| Failure::new(format!("read the password from standard input: {e}")))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Failure::new("password is empty"));
    }
    Ok((user, password))
}

/// What the user types at the terminal, for what was not given.
fn asked(user: String, password: String, known: &str) -> Result<(String, String), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new("Error: Cannot perform an interactive login from a non TTY device"));
    }
    let user = match user {
        user if !user.is_empty() => user,
        _ => {
            let question = if known.is_empty() { "Username: ".to_owned() } else { format!("Username ({known}): ") };
            let typed = terminal::ask(&question)?;
            if typed.is_empty() { known.to_owned() } else { typed }
        }
    };
    if user.is_empty() {
        return Err(Failure::new("Error: Non-null Username Required"));
    }
    let password = if password.is_empty() { terminal::ask_hidden("Password: ")? } else { password };
    if password.is_empty() {
        return Err(Failure::new("Error: Password Required"));
    }
    Ok((user, password))
}

async fn login(app: &App, m: &Matches) -> Result<u8, Failure> {
    let server = server(m.arg(0));
    let (user, password) = given(m)?;
    let stored = auth::lookup(&app.config, server);
    let known = stored.as_ref().and_then(|s| s["username"].as_str()).unwrap_or_default().to_owned();
    if let Some(stored) = stored.filter(|_| user.is_empty() && password.is_empty()) {
        print(&format!("Authenticating with existing credentials... [Username: {known}]\n"))?;
        match app.client().await?.call("POST", "/auth", Some(&stored)).await {
            Ok(done) => {
                print(&format!("\n{}\n", done["Status"].as_str().unwrap_or_default()))?;
                return Ok(0);
            }
            Err(e) => note(&format!("Login did not succeed, error: {}\n", Failure::from(e).message)),
        }
    }
    let (user, password) =
        if user.is_empty() || password.is_empty() { asked(user, password, &known)? } else { (user, password) };
    let body = json!({"username": user, "password": password, "serveraddress": server});
    let done = app.client().await?.call("POST", "/auth", Some(&body)).await?;
    let token = done["IdentityToken"].as_str().filter(|t| !t.is_empty());
    if auth::store(&app.config, server, &user, token.unwrap_or(&password), token.is_some())? {
        warn(&format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning. \
             See\nhttps://docs.docker.com/go/credential-store/\n",
            app.config.dir.join("config.json").display()
        ));
    }
    print(&format!("{}\n", done["Status"].as_str().unwrap_or_default()))?;
    Ok(0)
}

async fn logout(app: &App, m: &Matches) -> Result<u8, Failure> {
    let server = server(m.arg(0));
    print(&format!("Removing login credentials for {server}\n"))?;
    auth::erase(&app.config, server).map_err(|e| Failure::new(format!("could not erase credentials: {e}")))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::read;

    #[test]
    fn registries_have_one_name() {
        assert_eq!((server(""), server("docker.io"), server("https://index.docker.io/v1/")), (auth::HUB, auth::HUB, auth::HUB));
        assert_eq!(server("https://reg.example:5000/v2/"), "reg.example:5000");
    }

    #[test]
    fn flags_that_exclude_each_other() {
        let of = |line: &str| given(&read(line)).map_err(|e| e.message);
        assert_eq!(of("login -u me -p x").unwrap(), ("me".to_owned(), "x".to_owned()));
        assert!(of("login -u me -p x --password-stdin").unwrap_err().contains("mutually exclusive"));
        assert!(of("login --password-stdin").unwrap_err().contains("Must provide --username"));
    }
}
