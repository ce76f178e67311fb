//! `.agentsignore`: files of a project that file tools do not reach, in the syntax of `.gitignore`.
//!
//! The nearest such file counts, from the working folder upwards. Commands of `shell` are not bound by it.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use ignore::gitignore::Gitignore;
use ignore::gitignore::GitignoreBuilder;

use crate::environment::Environment;

/// The name of the file: docker-agent's.
const NAME: &str = ".agentsignore";
/// The largest such file: far more lines than a project needs.
const MAX_BYTES: u64 = 1024 * 1024;

/// The paths that are hidden. By default none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hidden {
    patterns: Option<Gitignore>,
    /// Where a link with the patterns leads. Such a file is hidden itself, wherever it is: who changes it, or makes a nearer
    /// one, changes what is hidden.
    target: PathBuf,
}

impl Hidden {
    /// Reads the file of the working folder, with the rights of the commands' user where such a command may have put it there.
    /// Waits for the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be read, a line is not a pattern, or whether there is a file is not known, as where this user may not
    /// follow its link. Tools that reach files must not be used then.
    pub(crate) fn of(environment: &Environment) -> Result<Self, String> {
        let working_dir = environment.working_dir.as_path();
        let failed_at =
            |file: &Path, error: &dyn Display| format!("{} cannot be used: {error}", file.display());
        let mut found = None;
        for file in working_dir.ancestors().map(|folder| folder.join(NAME)) {
            let _as_user = environment.files_at(&file).as_user().map_err(|error| failed_at(&file, &error))?;
            if is_file(&file).map_err(|error| failed_at(&file, &error))? {
                found = Some(file);
                break;
            }
        }
        let Some(named) = found else { return Ok(Self::default()) };
        let failed = |error: &dyn Display| failed_at(&named, error);
        let _as_user = environment.files_at(&named).as_user().map_err(|error| failed(&error))?;
        let file = fs::canonicalize(named.parent().unwrap_or(working_dir))
            .map_err(|error| failed(&error))?
            .join(NAME);
        let bytes = environment.files_at(&named).read(&named, MAX_BYTES).map_err(|error| failed(&error))?;
        let mut builder = GitignoreBuilder::new(file.parent().unwrap_or(working_dir));
        for line in String::from_utf8_lossy(&bytes).lines() {
            builder.add_line(None, line).map_err(|error| failed(&error))?;
        }
        let patterns = builder.build().map_err(|error| failed(&error))?;
        let target = fs::canonicalize(&file).map_err(|error| failed(&error))?;
        Ok(Self { patterns: Some(patterns), target })
    }

    /// The path to use for `path`, which the model wrote as `written`: where something is hidden, the one that its links
    /// lead to.
    ///
    /// # Errors
    ///
    /// The text for the model where the path is hidden.
    pub(crate) fn check(&self, path: PathBuf, written: &str) -> Result<PathBuf, String> {
        if self.patterns.is_none() {
            return Ok(path);
        }
        let path = real(&path).map_err(|error| format!("{written} cannot be resolved: {error}"))?;
        if self.hides(&path) {
            return Err(format!("{written} cannot be reached: {NAME} hides it"));
        }
        Ok(path)
    }

    /// Whether a path without links is hidden.
    pub(crate) fn hides(&self, path: &Path) -> bool {
        let Some(patterns) = &self.patterns else { return false };
        if path == self.target || path.file_name().is_some_and(|name| name == NAME) {
            return true;
        }
        let Ok(below) = path.strip_prefix(patterns.path()) else { return false };
        let is_empty = below.as_os_str().is_empty();
        !is_empty && patterns.matched_path_or_any_parents(below, path.is_dir()).is_ignore()
    }
}

/// Whether there is a regular file. An error says that this is not known, and never that there is none.
pub(crate) fn is_file(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The path without links, `.` and `..`. Parts that do not exist are kept.
pub(crate) fn real(path: &Path) -> io::Result<PathBuf> {
    let mut resolved = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                resolved.pop();
            }
            Component::RootDir | Component::Prefix(_) => resolved.push(component),
            Component::Normal(name) => {
                resolved.push(name);
                if resolved.symlink_metadata().is_ok() {
                    resolved = fs::canonicalize(&resolved)?;
                }
            }
        }
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::environment::Confinement;
    use crate::files::user::CommandUser;
    use crate::testing;

    #[test]
    fn the_nearest_file_hides_and_links_do_not_lead_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("work/deep/keys")).unwrap();
        fs::write(at(NAME), "*\n").unwrap();
        fs::write(at("work/.agentsignore"), "# keys\nkeys/\n*.env\n!open.env\n/top.txt\n").unwrap();
        symlink(at("work/deep/keys"), at("work/link")).unwrap();
        let hidden = Hidden::of(&testing::environment(at("work/deep"))).unwrap();
        let is_open = |path: &str| hidden.check(at(path), path).is_ok();
        for path in ["work/deep/a.txt", "work/deep/open.env", "work/deep/top.txt", "other", "work"] {
            assert!(is_open(path), "{path}");
        }
        for path in [
            "work/deep/keys",
            "work/deep/keys/new/id",
            "work/link/id",
            "work/deep/.env",
            "work/deep/x/../.env",
            "work/top.txt",
            "work/.agentsignore",
            // A nearer one would replace it.
            "work/deep/.agentsignore",
        ] {
            assert!(!is_open(path), "{path}");
        }
        assert_eq!(
            hidden.check(at("work/top.txt"), "top.txt").unwrap_err(),
            "top.txt cannot be reached: .agentsignore hides it"
        );
    }

    #[test]
    fn a_link_that_the_user_of_commands_may_not_follow_is_an_error() {
        if !rustix::process::geteuid().is_root() {
            writeln!(io::stderr(), "skipped: only root can become another user").unwrap();
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        for (folder, mode) in [("", 0o755), ("job", 0o755), ("closed", 0o700)] {
            fs::create_dir_all(at(folder)).unwrap();
            fs::set_permissions(at(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(at("closed/hidden"), "keys/\n").unwrap();
        symlink(at("closed/hidden"), at("job").join(NAME)).unwrap();
        let user = CommandUser { uid: 65534, gid: 65534, groups: vec![65534] };
        let confinement = Confinement { folder: at("job"), readable: Vec::new(), user: Some(user) };
        let environment = Environment { confinement: Some(confinement), ..testing::environment(at("job")) };
        let refused = Hidden::of(&environment).unwrap_err();
        assert!(refused.contains("job/.agentsignore cannot be used: Permission denied"), "{refused}");
        // One that leads nowhere hides nothing.
        fs::remove_file(at("job").join(NAME)).unwrap();
        symlink("none", at("job").join(NAME)).unwrap();
        assert!(Hidden::of(&environment).is_ok_and(|hidden| hidden.patterns.is_none()));
    }

    #[test]
    fn a_file_that_cannot_be_read_hides_nothing_and_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "{a\n").unwrap();
        assert!(
            Hidden::of(&testing::environment(folder.path())).is_err_and(|why| why.contains("cannot be used"))
        );
        fs::write(folder.path().join(NAME), vec![b'x'; 2 << 20]).unwrap();
        assert!(Hidden::of(&testing::environment(folder.path())).is_err());
    }
}
