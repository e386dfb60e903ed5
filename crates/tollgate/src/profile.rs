//! Where the server is and who asks: flags, then environment, then the profile that `tollgate login` writes,
//! then the data directory of a server started here.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// The console address that `tollgate up` listens on unless told otherwise.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:7000";
const DEFAULT_TOKEN_FILE: &str = "./tollgate-data/admin-token";

/// What `tollgate login` keeps.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    /// The server signed in to.
    pub(crate) server: String,
    /// An API token of the user.
    pub(crate) token: String,
}

/// A server and the token to show it.
pub(crate) struct Target {
    /// Base URL without a slash at its end.
    pub(crate) server: String,
    /// The API token; `None` when there is none anywhere.
    pub(crate) token: Option<String>,
}

// === impl Target ===

impl Target {
    /// Finds the server and the token.
    ///
    /// A token found in a file is sent only to the server that it belongs to.
    pub(crate) fn find(server: Option<&str>, token: Option<&str>) -> Self {
        let profile = Profile::read();
        let chosen = server
            .map(str::to_owned)
            .or_else(|| profile.as_ref().map(|profile| profile.server.clone()))
            .unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let chosen = chosen.trim_end_matches('/').to_owned();
        let token = token
            .map(str::to_owned)
            .or_else(|| profile.filter(|profile| profile.server == chosen).map(|profile| profile.token))
            .or_else(|| if is_loopback(&chosen) { read_token(Path::new(DEFAULT_TOKEN_FILE)) } else { None });
        Self { server: chosen, token }
    }
}

// === impl Profile ===

impl Profile {
    fn path() -> Option<PathBuf> {
        #[expect(clippy::disallowed_methods, reason = "this is the binary")]
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        var("XDG_CONFIG_HOME")
            .or_else(|| var("HOME").map(|home| home.join(".config")))
            .map(|config| config.join("tollgate").join("profile.json"))
    }

    /// Reads the profile; `None` when there is none that can be read.
    pub(crate) fn read() -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(Self::path()?).ok()?).ok()
    }

    /// Writes the profile, readable by its owner only.
    pub(crate) fn write(&self) -> anyhow::Result<PathBuf> {
        let path = Self::path().context("no home directory: set HOME or XDG_CONFIG_HOME")?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        write_secret(&path, serde_json::to_string_pretty(self)?.as_bytes())?;
        Ok(path)
    }

    /// Removes the profile; tells whether there was one.
    pub(crate) fn remove() -> bool {
        Self::path().is_some_and(|path| std::fs::remove_file(path).is_ok())
    }
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// # Errors
///
/// When the directory is not writable or the disk is full; the file that was there stays.
pub(crate) fn write_secret(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        // What a crash, or somebody else, left under this name has a mode of its own or is a link to elsewhere.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        anyhow::Error::from(error).context(format!("cannot write {}", path.display()))
    })
}

fn read_token(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_loopback(server: &str) -> bool {
    let authority =
        server.strip_prefix("http://").or_else(|| server.strip_prefix("https://")).unwrap_or_default();
    let host = authority.split('/').next().unwrap_or_default();
    host == "localhost"
        || host.starts_with("localhost:")
        || host.parse::<std::net::SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_is_its_owner_s_and_never_written_through_a_link() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, elsewhere) = (directory.path().join("secret"), directory.path().join("elsewhere"));
        let planted = path.with_extension(format!("tmp-{}", std::process::id()));
        std::os::unix::fs::symlink(&elsewhere, planted).expect("links");
        write_secret(&path, b"s3cret").expect("writes");
        assert_eq!(std::fs::read(&path).expect("reads"), b"s3cret");
        assert!(!elsewhere.exists());
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("exists").permissions());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_local_admin_token_is_offered_to_loopback_only() {
        for local in
            ["http://127.0.0.1:7000", "http://localhost:7000", "http://[::1]:7000", "http://localhost"]
        {
            assert!(is_loopback(local), "{local}");
        }
        for other in [
            "https://tollgate.example",
            "http://127.0.0.1.example:7000",
            "http://localhost.example",
            "http://user@127.0.0.1:7000",
            "http://10.0.0.1:7000",
            "",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
