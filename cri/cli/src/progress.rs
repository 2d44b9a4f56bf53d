//! Progress bars, one for each layer; where the output is no terminal, only what came of it.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tonic::Streaming;

use crate::connect::said;
use crate::proto::admin::{Layer, Outcome, Step, TransferEvent};

/// How much of a digest tells layers apart.
const SHORT: usize = 12;

/// Shows a transfer until it ends; gives back its outcome.
pub(crate) async fn follow(mut events: Streaming<TransferEvent>) -> Result<Outcome> {
    let mut bars = Bars::default();
    while let Some(event) = events.message().await.map_err(said)? {
        bars.show(&event.layers);
        if let Some(outcome) = event.outcome {
            return Ok(outcome);
        }
    }
    bail!("the daemon ended before the transfer did")
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    layers: BTreeMap<usize, ProgressBar>,
}

impl Bars {
    fn show(&mut self, layers: &[Layer]) {
        for (number, layer) in layers.iter().enumerate() {
            let all = &self.all;
            let bar = self.layers.entry(number).or_insert_with(|| all.add(bar(layer)));
            // What is made anew has no known length: the old one is only where it comes from.
            bar.set_length(layer.total.max(layer.moved));
            bar.set_position(layer.moved);
            match layer.step() {
                Step::Waiting => bar.set_message("waits"),
                Step::Moving => bar.set_message(""),
                Step::Known => bar.finish_with_message("there already"),
                Step::Done => bar.finish_with_message("done"),
            }
        }
    }
}

fn bar(layer: &Layer) -> ProgressBar {
    let digest = layer.digest.rsplit(':').next().unwrap_or_default();
    let template = "{prefix} [{bar:30}] {bytes:>10}/{total_bytes:<10} {msg}";
    let bar = ProgressBar::new(layer.total);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(digest.chars().take(SHORT).collect::<String>());
    bar
}
