//! How large a network is, before anything of it is built: a configuration from elsewhere may ask for terabytes.

use super::Published;

/// Number of values of a published model, codebook included. In f64: only its order of magnitude decides anything where an
/// integer would overflow.
pub(super) fn values(published: &Published) -> f64 {
    let c = &published.backbone;
    let conv = |from: i64, to: i64, kernel: i64| from as f64 * to as f64 * (kernel * kernel) as f64 + to as f64;
    let norm = |width: i64| 2.0 * width as f64;
    let block = |from: i64, to: i64| {
        let shortcut = if from == to { 0.0 } else { conv(from, to, 1) };
        norm(from) + conv(from, to, 3) + norm(to) + conv(to, to, 3) + shortcut
    };
    let attention = |width: i64| norm(width) + 4.0 * conv(width, width, 1);
    let stage = |i: usize, from: i64, to: i64, blocks: i64| {
        let attended = if c.attends(i) { attention(to) } else { 0.0 };
        block(from, to) + (blocks - 1) as f64 * block(to, to) + blocks as f64 * attended
    };
    let last = c.stages().saturating_sub(1);
    let widths: Vec<i64> = (0..c.stages()).map(|i| c.width(i)).collect();
    let coarsest = widths.last().copied().unwrap_or(c.ch);
    let middle = 2.0 * block(coarsest, coarsest) + if c.mid_attention { attention(coarsest) } else { 0.0 };
    let resample = |width: i64| if c.resamp_with_conv { conv(width, width, 3) } else { 0.0 };
    let (mut encoder, mut from) = (conv(c.in_channels, c.ch, 3), c.ch);
    for (i, to) in widths.iter().copied().enumerate() {
        encoder += stage(i, from, to, c.num_res_blocks) + if i == last { 0.0 } else { resample(to) };
        from = to;
    }
    encoder += middle + norm(coarsest) + conv(coarsest, c.z_channels, 3);
    let (mut decoder, mut from) = (conv(c.z_channels, coarsest, 3) + middle, coarsest);
    for (i, to) in widths.iter().copied().enumerate().rev() {
        decoder += stage(i, from, to, c.num_res_blocks + 1) + if i == 0 { 0.0 } else { resample(to) };
        from = to;
    }
    decoder += norm(from) + conv(from, c.out_ch, 3);
    let around = conv(c.z_channels, c.embed_dim, 1) + conv(c.embed_dim, c.z_channels, 1);
    encoder + decoder + around + published.codes as f64 * c.embed_dim as f64
}
