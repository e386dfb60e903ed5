//! A throw-away PostgreSQL cluster.
//!
//! One cluster serves a whole test process, and each [`Postgres::start`] makes a new database in it. A static
//! is never dropped and a killed process runs no code at all, so the cluster is not stopped by us: a small
//! shell keeps it, waits for the end of its standard input, and then stops the server and removes its files.
//! We hold the other end of that pipe, and the kernel closes it however this process ends.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::sync::OnceCell;

use crate::waiting::{free_port, wait_until};

const USER: &str = "tollgate";

/// Runs the server until standard input ends. Arguments: directory, port, path of `postgres`.
const KEEPER: &str = r#"
"$3" -D "$1/data" -p "$2" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c fsync=off -c full_page_writes=off -c max_connections=200 -c shared_buffers=32MB \
    </dev/null >"$1/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT $server
wait $server
rm -rf "$1"
"#;

/// An empty database of its own.
#[derive(Debug)]
pub struct Postgres {
    port: u16,
    database: String,
    psql: PathBuf,
}

struct Cluster {
    binaries: PathBuf,
    port: u16,
    /// Its standard input keeps the cluster alive.
    _keeper: Child,
}

/// Whom to run as: PostgreSQL refuses root.
#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static DATABASES: AtomicU32 = AtomicU32::new(0);

// === impl Postgres ===

impl Postgres {
    /// Makes a new database, in a cluster that the first call starts.
    ///
    /// # Errors
    ///
    /// When PostgreSQL's server is not installed or does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let cluster = CLUSTER.get_or_try_init(Cluster::start).await?;
        let database = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut createdb = Command::new(cluster.binaries.join("createdb"));
        createdb.args([
            "-h",
            "127.0.0.1",
            "-p",
            &cluster.port.to_string(),
            "-U",
            USER,
            "-T",
            "template0",
            &database,
        ]);
        run(createdb).await?;
        Ok(Self { port: cluster.port, database, psql: cluster.binaries.join("psql") })
    }

    /// Runs SQL in the database, in one transaction.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        let mut psql = Command::new(&self.psql);
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", USER, "-d", &self.database]);
        psql.args(["--no-psqlrc", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        run(psql).await.map(|_| ())
    }

    /// Returns the URL of the database.
    pub fn url(&self) -> String {
        self.url_via(self.address())
    }

    /// Returns the URL of the database through a proxy in front of [`Postgres::address`].
    pub fn url_via(&self, proxy: SocketAddr) -> String {
        format!("postgres://{USER}@{proxy}/{}", self.database)
    }

    /// Returns the address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

// === impl Cluster ===

impl Cluster {
    async fn start() -> anyhow::Result<Self> {
        let binaries = find_binaries()?;
        let account = unprivileged_account()?;
        let directory = tempfile::Builder::new().prefix("tollgate-postgres-").tempdir()?.keep();
        let command = |program: &str| {
            let mut command = Command::new(program);
            command.current_dir(&directory);
            if let Some(Account { uid, gid }) = account {
                command.uid(uid).gid(gid);
            }
            command
        };
        if let Some(Account { uid, gid }) = account {
            chown(&directory, Some(uid), Some(gid))?;
        }
        let mut initdb = command(&binaries.join("initdb").to_string_lossy());
        initdb.args(["-D", "data", "-U", USER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
        run(initdb).await?;

        let port = free_port();
        let keeper = command("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&directory, Path::new(&port.to_string()), &binaries.join("postgres")])
            .stdin(Stdio::piped())
            // Its own group: Ctrl-C must not end it before it has cleaned up.
            .process_group(0)
            .spawn()
            .context("cannot start a shell")?;
        let ready = binaries.join("pg_isready");
        wait_until("PostgreSQL accepts connections", Duration::from_secs(60), async || {
            let mut probe = Command::new(&ready);
            probe.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
            run(probe).await.is_ok()
        })
        .await;
        Ok(Self { binaries, port, _keeper: keeper })
    }
}

/// Finds the newest installed server: Debian keeps it out of `PATH`.
fn find_binaries() -> anyhow::Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    if let Some(path) = found.pop() {
        return Ok(path);
    }
    let output = Command::new("sh").args(["-c", "command -v initdb"]).output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    match fs::canonicalize(path).ok().as_deref().and_then(Path::parent) {
        Some(parent) => Ok(parent.to_owned()),
        None => bail!("PostgreSQL's server is not installed: `apt-get install postgresql` provides it"),
    }
}

/// Returns the account to change to when this process is root's.
fn unprivileged_account() -> anyhow::Result<Option<Account>> {
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
        return Ok(None);
    }
    let mut passwd = String::new();
    fs::File::open("/etc/passwd")?.read_to_string(&mut passwd)?;
    let account = |name: &str| {
        let mut fields = passwd.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some(Account { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    account("postgres")
        .or_else(|| account("nobody"))
        .map(Some)
        .context("neither user `postgres` nor `nobody` exists")
}

async fn run(mut command: Command) -> anyhow::Result<Output> {
    let output = tokio::task::spawn_blocking(move || {
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))
    })
    .await??;
    if !output.status.success() {
        bail!("PostgreSQL's tool failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_start_gives_a_database_of_its_own_in_one_cluster() {
        let (one, other) = tokio::try_join!(Postgres::start(), Postgres::start()).unwrap();
        assert_eq!(one.address(), other.address());
        assert_ne!(one.url(), other.url());
        assert!(tokio::net::TcpStream::connect(one.address()).await.is_ok());
    }
}
