//! The spellings of options that NSQ's tools take, `--flag=value`, `-flag value` and `-switch=true`, as argh wants them
//! (pure).

/// Rewrites the arguments; `is_switch` says which options, with their `--`, take no value.
///
/// # Errors
/// The switch that was given a value other than true and false.
pub(super) fn normalise(
    args: &[String],
    is_switch: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    let mut out = Vec::with_capacity(args.len());
    for arg in args {
        let is_word =
            |text: &str| text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic());
        let arg = match arg.strip_prefix('-') {
            Some(name) if is_word(name) => format!("-{arg}"),
            _ => arg.clone(),
        };
        let Some((flag, value)) = arg.split_once('=').filter(|(flag, _)| flag.starts_with("--"))
        else {
            out.push(arg);
            continue;
        };
        match (is_switch(flag), value) {
            (true, "true") => out.push(flag.into()),
            (true, "false") => {}
            (true, _) => return Err(format!("{flag} takes no value, got {value:?}")),
            (false, _) => out.extend([flag.into(), value.into()]),
        }
    }
    Ok(out)
}
