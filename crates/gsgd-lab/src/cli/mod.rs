//! The commands.

mod balance;
#[cfg(feature = "train")]
mod compare;
#[cfg(feature = "train")]
mod comparison;
#[cfg(feature = "train")]
mod demo;
mod equivalent;
mod export;
#[cfg(feature = "train")]
mod folder;
mod inspect;
#[cfg(feature = "train")]
mod interrupt;
#[cfg(feature = "train")]
mod metrics;
mod network;
#[cfg(feature = "train")]
mod reproduce;
mod rescale;
mod rewrite;
mod stages;
#[cfg(feature = "train")]
mod train;

use clap::{CommandFactory, Parser, Subcommand};
use gsgd_net::runtime;

use crate::text::{print_raw, say, written_to_output};

#[cfg(feature = "train")]
const HELP: &str = "Without a command: trains a small network on the embedded Fashion-MNIST with every optimiser, from a \
                  He start and from a rescaled one, in about half a minute.\n\nExamples:\n  gsgd\n  gsgd train --optimizer g-adam --lr 0.01 \
                  --epochs 5 --out runs/first\n  gsgd compare --optimizers sgd,adam,gsgd --lrs 0.01,0.1 --seeds 0,1,2 \
                  --validation 5000\n  gsgd inspect runs/first/final.safetensors\n  gsgd rescale \
                  runs/first/final.safetensors rescaled.safetensors --spread 2";
#[cfg(not(feature = "train"))]
const HELP: &str = "This program was built for networks in files alone, without training.\n\nExamples:\n  gsgd inspect \
                    model.onnx\n  gsgd balance model.onnx balanced.onnx";

/// Train ReLU networks in their positively scale-invariant space
#[derive(Debug, Parser)]
#[command(
    name = "gsgd",
    version,
    after_help = HELP
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[cfg(feature = "train")]
    /// Optimisers side by side from the same weights and batches (what `gsgd` alone does)
    Demo(demo::Demo),
    #[cfg(feature = "train")]
    /// One training run
    Train(Box<train::Train>),
    #[cfg(feature = "train")]
    /// Optimisers by learning rates by seeds, matched starts and batches, with a report
    Compare(Box<compare::Compare>),
    #[cfg(feature = "train")]
    /// An experiment of the paper, or one beside it
    Reproduce(reproduce::Reproduce),
    #[cfg(feature = "train")]
    /// The report of a comparison or of a run, drawn again
    Report(compare::Report),
    /// A checkpoint's layers, scaling classes, norms and balance
    Inspect(inspect::Inspect),
    /// The same function with rescaled units, in a new file
    Rescale(rescale::Rescale),
    /// The same function with balanced units: equal incoming and outgoing norms, in a new file
    Balance(balance::Balance),
    /// Whether two checkpoints are one function up to positive scaling
    Equivalent(equivalent::Equivalent),
    /// A network in any file as an ONNX file
    Export(export::Export),
    /// Completions for a shell, on standard output
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Outputs of an ONNX file, from standard input to standard output, for this program itself
    #[command(name = runtime::COMMAND, hide = true)]
    OnnxOutputs,
}

impl Cli {
    /// What the command line asks for; ends the program where that is help, or nothing that can be done.
    pub fn of_command_line() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let printed = error.print();
            let mut status = error.exit_code();
            if !error.use_stderr()
                && let Err(error) = written_to_output(printed)
            {
                say(&format!("error: {error:#}"));
                status = 2;
            }
            std::process::exit(status)
        })
    }

    /// The optimisers side by side.
    #[cfg(feature = "train")]
    fn without_command() -> anyhow::Result<()> {
        demo::Demo::parse_from(["demo"]).run()
    }

    /// What there is.
    #[cfg(not(feature = "train"))]
    fn without_command() -> anyhow::Result<()> {
        print_raw(&Self::command().render_help().to_string())
    }

    /// Carries out the command.
    ///
    /// # Errors
    /// What went wrong, with the file, key or flag.
    pub fn run(self) -> anyhow::Result<()> {
        let Some(command) = self.command else {
            return Self::without_command();
        };
        match command {
            #[cfg(feature = "train")]
            Command::Demo(demo) => demo.run(),
            #[cfg(feature = "train")]
            Command::Train(train) => train.run(),
            #[cfg(feature = "train")]
            Command::Compare(compare) => compare.run(),
            #[cfg(feature = "train")]
            Command::Reproduce(reproduce) => reproduce.run(),
            #[cfg(feature = "train")]
            Command::Report(report) => report.run(),
            Command::Inspect(inspect) => inspect.run(),
            Command::Rescale(rescale) => rescale.run(),
            Command::Balance(balance) => balance.run(),
            Command::Equivalent(equivalent) => equivalent.run(),
            Command::Export(export) => export.run(),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "gsgd", &mut script);
                print_raw(&String::from_utf8(script)?)
            }
            Command::OnnxOutputs => runtime::answer(),
        }
    }
}
