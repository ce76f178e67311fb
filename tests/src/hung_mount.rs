//! A file system that never answers, as one whose network is gone: FUSE with no program behind it.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A folder below which each call hangs until this value is dropped.
#[derive(Debug)]
pub struct HungMount {
    folder: PathBuf,
    /// Holds the other end of the file system: when it ends, calls fail.
    holder: Child,
}

impl HungMount {
    /// Mounts it. If this user may not, or the system has no FUSE, the test should skip: the reason is written to the real
    /// standard error, which the test harness does not capture.
    pub fn at(folder: &Path) -> Option<Self> {
        fs::create_dir(folder).unwrap();
        let mount = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hang \"$0\" && \
                     echo mounted && exec sleep 600";
        let mut command = Command::new("sh");
        command
            .args(["-c", mount])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut holder = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "mounted\n" {
            holder.wait().unwrap();
            writeln!(std::io::stderr(), "skipped: this user cannot mount a FUSE file system").ok()?;
            return None;
        }
        Some(Self { folder: folder.to_owned(), holder })
    }
}

impl Drop for HungMount {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
        Command::new("umount").arg("-l").arg(&self.folder).status().ok();
    }
}
