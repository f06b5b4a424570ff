//! Which nodes, which series and which field the arguments mean.

use anyhow::bail;
use hostbus_store::{Line, NodeSummary, Reader, Tier};
use hostbus_wire::NodePath;
use hostbus_wire::sample::shared_field;

/// What stands for all nodes.
pub(super) const ALL: &str = "*";
/// No list in a message is longer.
const SHOWN: usize = 30;

/// One series of one node, or one field of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) node: NodePath,
    pub(super) series: String,
    pub(super) field: Option<String>,
    /// The fields of its newest rows.
    fields: Vec<String>,
}

impl Target {
    /// The same, as a line of a chart.
    pub(super) fn line(&self) -> Line {
        Line {
            node: self.node.clone(),
            series: self.series.clone(),
            fields: self.field.clone().into_iter().collect(),
        }
    }

    /// The columns that are wanted of `tier`; `None` for all.
    pub(super) fn columns(&self, tier: Tier) -> Option<Vec<String>> {
        let field = self.field.as_ref()?;
        Some(match tier {
            Tier::Raw => vec![field.clone()],
            _ => vec![
                field.clone(),
                format!("{field}_min"),
                format!("{field}_max"),
                "n".to_owned(),
            ],
        })
    }

    /// The columns that the newest rows have.
    pub(super) fn newest(&self) -> Vec<String> {
        match &self.field {
            Some(field) => vec![field.clone()],
            None => self.fields.clone(),
        }
    }
}

/// The nodes that `wanted` means: one, several with commas between them, or all.
pub(super) fn find_all(wanted: &str, nodes: &[NodeSummary]) -> anyhow::Result<Vec<NodePath>> {
    if wanted == ALL {
        return Ok(nodes.iter().map(|node| node.node.clone()).collect());
    }
    let mut found: Vec<NodePath> = Vec::new();
    for name in wanted.split(',') {
        let node = find(name.trim(), nodes)?;
        if !found.contains(&node) {
            found.push(node);
        }
    }
    Ok(found)
}

/// The node that `wanted` means: `site.node`, or a node's name when only one site has it.
pub(crate) fn find(wanted: &str, nodes: &[NodeSummary]) -> anyhow::Result<NodePath> {
    let known = || {
        let names: Vec<String> = nodes.iter().map(|node| node.node.to_string()).collect();
        list(&names)
    };
    if wanted.contains(['.', '/']) {
        let path: NodePath = wanted.parse()?;
        if nodes.iter().any(|node| node.node == path) {
            return Ok(path);
        }
        bail!("no node `{wanted}` in Redis; it knows: {}", known());
    }
    let found: Vec<&NodePath> = nodes
        .iter()
        .map(|node| &node.node)
        .filter(|path| path.node.as_str() == wanted)
        .collect();
    match found[..] {
        [path] => Ok(path.clone()),
        [] => bail!("no node `{wanted}` in Redis; it knows: {}", known()),
        _ => bail!("several sites have a node `{wanted}`: write it as <site>.{wanted}"),
    }
}

/// The series or field `wanted` of each node that has it. An error tells what there is.
pub(super) async fn choose(
    reader: &Reader,
    nodes: Vec<NodePath>,
    wanted: &str,
) -> anyhow::Result<Vec<Target>> {
    let (mut targets, mut missing) = (Vec::new(), None);
    for node in nodes {
        let known = reader.series(&node).await?;
        let Some((series, field)) = split(wanted, &known) else {
            let known = list(&known);
            missing = missing
                .or_else(|| Some(format!("{node} has no series `{wanted}`; it has: {known}")));
            continue;
        };
        let fields = reader.series_fields(&node, series).await?;
        // An instance that is gone may have a past.
        let comes_and_goes = shared_field(series).is_some();
        if let Some(field) = field
            && !comes_and_goes
            && !fields.is_empty()
            && !fields.iter().any(|known| known == field)
        {
            let known = list(&fields);
            missing = missing.or_else(|| {
                Some(format!(
                    "{series} of {node} has no field `{field}`; it has: {known}"
                ))
            });
            continue;
        }
        targets.push(Target {
            series: series.to_owned(),
            field: field.map(str::to_owned),
            fields,
            node,
        });
    }
    match missing {
        Some(missing) if targets.is_empty() => bail!(missing),
        _ => Ok(targets),
    }
}

/// Names as a message shows them.
fn list(names: &[String]) -> String {
    match names {
        [] => "none yet".to_owned(),
        _ if names.len() > SHOWN => {
            format!(
                "{} and {} more",
                names[..SHOWN].join(", "),
                names.len() - SHOWN
            )
        }
        _ => names.join(", "),
    }
}

/// Series and field of `cpu.usage_percent`, `filesystem:/mnt/a.b`, `filesystem:/.used_percent` or
/// `sensors.in0.5v`.
fn split<'w>(wanted: &'w str, known: &[String]) -> Option<(&'w str, Option<&'w str>)> {
    let is_known = |series: &str| known.iter().any(|name| name == series);
    if is_known(wanted) {
        return Some((wanted, None));
    }
    let mut dots = wanted.rmatch_indices('.');
    dots.find_map(|(dot, _)| {
        let (series, field) = (&wanted[..dot], &wanted[dot + 1..]);
        is_known(series).then_some((series, Some(field)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_what_follows_the_dot_behind_the_longest_known_series() {
        let known: Vec<String> = ["cpu", "filesystem:/", "filesystem:/mnt/a.b", "sensors"]
            .map(str::to_owned)
            .into();
        let check = |wanted: &str, expected: Option<(&str, Option<&str>)>| {
            assert_eq!(split(wanted, &known), expected, "{wanted}");
        };
        check("cpu", Some(("cpu", None)));
        check("cpu.load1", Some(("cpu", Some("load1"))));
        check(
            "filesystem:/.used_percent",
            Some(("filesystem:/", Some("used_percent"))),
        );
        check("filesystem:/mnt/a.b", Some(("filesystem:/mnt/a.b", None)));
        check(
            "filesystem:/mnt/a.b.used_bytes",
            Some(("filesystem:/mnt/a.b", Some("used_bytes"))),
        );
        check(
            "sensors.nct6798/in0.5v",
            Some(("sensors", Some("nct6798/in0.5v"))),
        );
        check("gpu", None);
        check("gpu:0.x", None);
    }

    #[test]
    fn a_node_is_found_by_its_name_alone_when_only_one_site_has_it() {
        let node = |path: &str| NodeSummary {
            node: path.parse().unwrap(),
            seen_ms: 0,
            status: None,
            last: None,
        };
        let nodes = [node("home.a"), node("home.b"), node("lab.b")];
        assert_eq!(find("a", &nodes).unwrap().to_string(), "home.a");
        assert_eq!(find("lab.b", &nodes).unwrap().to_string(), "lab.b");
        assert!(
            find("b", &nodes)
                .unwrap_err()
                .to_string()
                .contains("<site>.b")
        );
        assert!(
            find("c", &nodes)
                .unwrap_err()
                .to_string()
                .contains("home.a, home.b, lab.b")
        );
        assert!(find("lab.a", &nodes).is_err());
        let all = |wanted: &str| -> Vec<String> {
            let found = find_all(wanted, &nodes).unwrap();
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(all("*"), ["home.a", "home.b", "lab.b"]);
        assert_eq!(all("a, lab.b,a"), ["home.a", "lab.b"]);
        assert!(find_all("a,c", &nodes).is_err());
    }
}
