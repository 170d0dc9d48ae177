//! `/containers/{id}/exec` and `/exec/…`.

use axum::Json;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::json;
use skep_types::container::ExecConfig;
use tokio::io::AsyncWriteExt;

use crate::App;
use crate::body::JsonBody;
use crate::containers::ResizeQuery;
use crate::error::Handled;
use crate::fields::Fields;
use crate::hijack::{Hijack, Source, carry, frame};

/// Rows and columns; none where there are none.
pub(crate) fn console_size(body: &mut Fields) -> Handled<Option<(u16, u16)>> {
    Ok(body.option::<(u16, u16)>("ConsoleSize")?.filter(|(rows, columns)| *rows > 0 && *columns > 0))
}

pub(crate) async fn create(State(app): State<App>, Path(id): Path<String>, JsonBody(mut body): JsonBody) -> Handled {
    let config = ExecConfig {
        cmd: body.get("Cmd")?,
        env: body.get("Env")?,
        working_dir: body.get("WorkingDir")?,
        user: body.get("User")?,
        tty: body.get("Tty")?,
        attach_stdin: body.get("AttachStdin")?,
        attach_stdout: body.get("AttachStdout")?,
        attach_stderr: body.get("AttachStderr")?,
        privileged: body.get("Privileged")?,
        console_size: console_size(&mut body)?,
    };
    body.skip(&["DetachKeys", "Detach", "Container"]);
    body.finish()?;
    let exec = app.engine.exec_create(&id, config)?;
    Ok((StatusCode::CREATED, Json(json!({"Id": exec}))).into_response())
}

pub(crate) async fn start(State(app): State<App>, Path(id): Path<String>, mut request: Request) -> Handled {
    let hijack = Hijack::of(&mut request);
    let JsonBody(mut body) = <JsonBody as axum::extract::FromRequest<App>>::from_request(request, &app).await?;
    let detach: bool = body.get("Detach")?;
    let info = app.engine.exec_check(&id)?;
    let tty = info.config.tty;
    if detach || !hijack.asked() {
        let stdio = app.engine.exec_start(&id).await?;
        // Its output goes nowhere, but must be read for the process to go on.
        tokio::spawn(async move {
            let mut stdio = stdio;
            while stdio.output.recv().await.is_some() {}
        });
        return Ok(StatusCode::OK.into_response());
    }
    let response = hijack.accept(tty);
    tokio::spawn(async move {
        let Some(mut io) = hijack.connection().await else { return };
        match app.engine.exec_start(&id).await {
            Ok(stdio) => carry(io, stdio, tty, info.config.attach_stdin).await,
            Err(e) => {
                // The connection is already a stream: Docker prints the reason there, and `inspect` has the code.
                let text = format!("{}\r\n", e.message);
                let _ = io.write_all(&frame(Source::Stdout, tty, text.as_bytes())).await;
                let _ = io.shutdown().await;
            }
        }
    });
    Ok(response)
}

pub(crate) async fn resize(State(app): State<App>, Path(id): Path<String>, Query(query): Query<ResizeQuery>) -> Handled {
    let (height, width) = query.size()?;
    app.engine.exec_resize(&id, height, width).await?;
    Ok(StatusCode::OK.into_response())
}

pub(crate) async fn inspect(State(app): State<App>, Path(id): Path<String>) -> Handled {
    let info = app.engine.exec(&id)?;
    let c = &info.config;
    let (entrypoint, arguments) = c.cmd.split_first().map_or(("", &[][..]), |(e, a)| (e.as_str(), a));
    Ok(Json(json!({
        "ID": info.id, "ContainerID": info.container, "Running": info.running, "ExitCode": info.exit_code, "Pid": info.pid,
        "OpenStdin": c.attach_stdin, "OpenStdout": c.attach_stdout, "OpenStderr": c.attach_stderr, "CanRemove": false,
        "DetachKeys": "",
        "ProcessConfig": {
            "tty": c.tty, "entrypoint": entrypoint, "arguments": arguments, "privileged": c.privileged, "user": c.user,
        },
    }))
    .into_response())
}
