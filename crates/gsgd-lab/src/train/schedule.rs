//! The learning rate over a run.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// How the lr goes on from its first value: `constant`, `linear`, `cosine`, or `step:32000,48000@0.1`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(into = "String")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// Down to 0 in a straight line.
    Linear,
    /// Down to 0 along half a cosine.
    Cosine,
    /// Multiplied by a factor at each of these steps.
    Step {
        /// Steps, rising.
        at: Vec<usize>,
        /// The factor, above 0 and at most 1.
        factor: f64,
    },
}

impl Schedule {
    /// The factor of the lr at a step, from 0, of a run of `steps`; in the first `warmup` steps it rises from 1 / warmup.
    pub fn factor(&self, step: usize, steps: usize, warmup: usize) -> f64 {
        let done = step as f64 / steps.max(1) as f64;
        let factor = match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - done,
            Self::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
            Self::Step { at, factor } => {
                let passed = at.iter().filter(|&&at| step >= at).count();
                factor.powi(passed as i32)
            }
        };
        match step < warmup {
            true => factor * (step + 1) as f64 / warmup as f64,
            false => factor,
        }
    }
}

impl FromStr for Schedule {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            Err(format!(
                "`{text}` is no schedule: there are constant, linear, cosine and step:AT,AT,...@FACTOR with rising \
                 steps and a factor above 0 and at most 1, such as step:32000,48000@0.1"
            ))
        };
        match text {
            "constant" => return Ok(Self::Constant),
            "linear" => return Ok(Self::Linear),
            "cosine" => return Ok(Self::Cosine),
            _ => {}
        }
        let Some((at, factor)) = text.strip_prefix("step:").and_then(|t| t.split_once('@')) else {
            return wrong();
        };
        let at: Result<Vec<usize>, _> = at.split(',').map(str::parse).collect();
        match (at, factor.parse::<f64>()) {
            (Ok(at), Ok(factor)) if at.is_sorted() && factor > 0.0 && factor <= 1.0 => {
                Ok(Self::Step { at, factor })
            }
            _ => wrong(),
        }
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.to_string()
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Linear => f.write_str("linear"),
            Self::Cosine => f.write_str("cosine"),
            Self::Step { at, factor } => {
                let at: Vec<String> = at.iter().map(usize::to_string).collect();
                write!(f, "step:{}@{factor}", at.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_go_where_they_say() {
        let factor = |text: &str, step| text.parse::<Schedule>().unwrap().factor(step, 100, 0);
        assert_eq!(factor("constant", 99), 1.0);
        assert_eq!((factor("linear", 0), factor("linear", 25)), (1.0, 0.75));
        assert_eq!((factor("cosine", 0), factor("cosine", 100)), (1.0, 0.0));
        assert!((factor("cosine", 50) - 0.5).abs() < 1e-12);
        let step = [9, 10, 19, 20].map(|at| factor("step:10,20@0.5", at));
        assert_eq!(step, [1.0, 0.5, 0.5, 0.25]);
        let warm = [0, 1, 3, 4].map(|at| Schedule::Constant.factor(at, 100, 4));
        assert_eq!(warm, [0.25, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn names_go_round_and_wrong_ones_are_refused() {
        for text in ["constant", "linear", "cosine", "step:32000,48000@0.1"] {
            assert_eq!(text.parse::<Schedule>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "step",
            "step:@0.1",
            "step:20,10@0.1",
            "step:10@0",
            "step:10@2",
            "step:a@0.1",
        ] {
            assert!(text.parse::<Schedule>().unwrap_err().contains("step:32000"));
        }
    }
}
