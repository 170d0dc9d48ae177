//! A container's other name: taken before the old one is let go, so that at no time nobody or two have either.

use skep_types::names;

use crate::Engine;
use crate::error::{Result, conflict, invalid};

impl Engine {
    /// Gives a container another name, on the networks that it is on too.
    ///
    /// # Errors
    /// 400 for a name that none can have or that it has already, 404, 409 for one in use.
    pub async fn rename(&self, target: &str, wanted: &str) -> Result<()> {
        let container = self.find(target)?;
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        if name.is_empty() {
            return Err(invalid("Neither old nor new names may be empty"));
        }
        if !names::is_valid(name) {
            return Err(invalid(format!("Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")));
        }
        let _guard = container.ops.lock().await;
        let old = container.info().name;
        if old == name {
            return Err(invalid("Renaming a container with the same name as its current name"));
        }
        self.take_name(name, &container.id).map_err(|holder| {
            conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". You have to remove (or \
                 rename) that container to be able to reuse that name."
            ))
        })?;
        let stored = container.update(true, |r| {
            name.clone_into(&mut r.info.name);
            if let Some(sandbox) = &mut r.sandbox {
                name.clone_into(&mut sandbox.request.name);
            }
        });
        if let Err(e) = stored {
            // Memory goes back to what the disk has.
            let _ = container.note(|r| r.info.name.clone_from(&old));
            self.release_name(name, &container.id);
            return Err(e);
        }
        self.release_name(&old, &container.id);
        self.net.rename(&container.id, name).await?;
        self.container_event(&container, "rename", [("oldName".to_owned(), format!("/{old}"))]);
        Ok(())
    }
}
