//! Which instances a collector takes: globs to include and to exclude.
//!
//! In a glob `*` stands for any text, slashes too, and `?` for one character.

use wildmatch::WildMatch;

/// A checked pair of glob lists.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    include: Vec<WildMatch>,
    exclude: Vec<WildMatch>,
}

impl Selection {
    /// With `include` given only what it matches is taken, whatever `exclude` says. Without it all
    /// is taken that `exclude` does not match.
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Self {
        let globs = |list: &[String]| list.iter().map(|glob| WildMatch::new(glob)).collect();
        Self {
            include: globs(include),
            exclude: globs(exclude),
        }
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        let matched = |list: &[WildMatch]| list.iter().any(|glob| glob.matches(name));
        if self.include.is_empty() {
            !matched(&self.exclude)
        } else {
            matched(&self.include)
        }
    }
}

/// A list of globs as settings hold it.
pub(crate) fn globs<const N: usize>(list: [&str; N]) -> Vec<String> {
    list.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn include_wins_over_exclude() {
        let check = |include: &[&str], exclude: &[&str], name: &str, taken: bool| {
            let owned = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
            let selection = Selection::new(&owned(include), &owned(exclude));
            assert_eq!(
                selection.takes(name),
                taken,
                "{include:?} {exclude:?} {name}"
            );
        };
        check(&[], &[], "sda", true);
        check(&[], &["loop*"], "loop12", false);
        check(&[], &["loop*"], "sda", true);
        check(&["docker0"], &["docker*"], "docker0", true);
        check(&["docker0"], &[], "eth0", false);
        check(&[], &["/snap/*"], "/snap/core/123", false);
        check(&[], &["/snap/*"], "/snap", true);
        check(&[], &["nvme*c*n*"], "nvme0c0n1", false);
        check(&[], &["nvme*c*n*"], "nvme0n1", true);
    }
}
