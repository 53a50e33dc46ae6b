//! Names of parameters in the checkpoints of earlier versions, whose networks were modules of their own.

/// The name that a parameter has now, from its path in such a module: `Conv.stages.0.1.first.conv.weight` is
/// `layer1.1.conv1.weight`. A name that is no such path stays.
pub fn name_now(path: &str) -> String {
    let Some(path) = path
        .strip_prefix("Mlp.")
        .or_else(|| path.strip_prefix("Conv."))
    else {
        return path.to_string();
    };
    let mut parts: Vec<&str> = path.split('.').collect();
    let leaf = match parts.pop() {
        Some("gamma") => "weight",
        Some("beta") => "bias",
        Some(leaf) => leaf,
        None => "",
    };
    let mut name = String::new();
    let mut rest = parts.as_slice();
    if let ["stages", stage, block, inner @ ..] = rest {
        let stage = stage.parse::<usize>().map_or(0, |stage| stage + 1);
        name = format!("layer{stage}.{block}.");
        rest = inner;
    }
    name += &match rest {
        ["stem" | "first", "conv"] => "conv1".to_string(),
        ["stem" | "first", "norm"] => "bn1".into(),
        ["second", "conv"] => "conv2".into(),
        ["second", "norm"] => "bn2".into(),
        ["downsample", "conv"] => "downsample.0".into(),
        ["downsample", "norm"] => "downsample.1".into(),
        ["head"] => "fc".into(),
        other => other.join("."),
    };
    format!("{name}.{leaf}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_earlier_modules_have_names() {
        for (path, name) in [
            ("Mlp.layers.2.weight", "layers.2.weight"),
            ("Conv.stem.conv.bias", "conv1.bias"),
            ("Conv.stem.norm.gamma", "bn1.weight"),
            ("Conv.stages.1.0.first.conv.weight", "layer2.0.conv1.weight"),
            ("Conv.stages.2.3.second.norm.beta", "layer3.3.bn2.bias"),
            (
                "Conv.stages.1.0.downsample.norm.running_var",
                "layer2.0.downsample.1.running_var",
            ),
            ("Conv.head.bias", "fc.bias"),
            ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
        ] {
            assert_eq!(name_now(path), name);
        }
    }
}
