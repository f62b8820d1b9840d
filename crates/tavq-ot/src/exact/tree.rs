//! The spanning tree of the simplex: `n` sources, `m` sinks and one root.
//!
//! Flows are integers, so ties are exact and a strongly feasible tree stays one: every tree arc without flow points
//! to the root, which rules out cycling. A potential is a pair (units of the artificial cost, ordinary cost)
//! compared lexicographically; no finite "big M" ever mixes with the costs.
//!
//! Nodes are kept in preorder, so a subtree is a run of that order (`links`). A pivot moves the potentials of a run, or
//! of all other nodes where those are fewer, by one amount. Rounding piles up in them until the next [`Tree::resum`];
//! they only propose an arc. Near a tie it enters when the cost of its cycle, summed in twice the precision, is below
//! zero: strong feasibility excludes cycling only when each step is an improvement in exact arithmetic, and a rounded
//! potential can make a tie look like one.

use crate::exact::links::Links;
use crate::exact::sum::Sum;

/// Pivots between two sums of all potentials.
const RESUM: usize = 1024;
/// Share of the largest potential that drift cannot reach within [`RESUM`] pivots and a path of 10^4 arcs.
const DRIFT: f64 = 1e-10;

/// What one pivot does to the tree.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    child: usize,
    on_source_side: bool,
    amount: i64,
}

/// A tree arc to begin with: it carries `flow` > 0 from a source to a sink (counted from 0 on each side).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Branch {
    pub(crate) source: usize,
    pub(crate) sink: usize,
    pub(crate) flow: i64,
    pub(crate) cost: f64,
}

/// A rooted spanning tree with the flow of each arc stored at its lower end.
pub(crate) struct Tree {
    sources: usize,
    links: Links,
    flow: Vec<i64>,
    /// Cost of each arc, stored at its lower end.
    arc: Vec<f64>,
    /// Ordinary part of the dual of each source, then of each sink.
    pub(crate) dual: Vec<f64>,
    /// Artificial part of the same duals.
    pub(crate) level: Vec<i32>,
    /// Sinks and sources that hang from the root.
    hung: [usize; 2],
    since_resum: usize,
    certain: f64,
    largest_cost: f64,
}

impl Tree {
    /// The forest of `branches`, each part hung from the root by an artificial arc.
    ///
    /// `left` is what the branches leave of each mass (sources, then sinks); at most one node of each part may have
    /// some. That node, or the first source of a part without one, goes to the root, at the ordinary cost `height` of
    /// that node: artificial flow ends at 0 whatever it costs, and a good guess of the dual spares pivots.
    pub(crate) fn new(sources: usize, branches: &[Branch], left: &[i64], height: &[f64], largest_cost: f64) -> Self {
        let nodes = left.len();
        let forest = Forest::new(sources, nodes, branches);
        let mut tree = Self {
            sources,
            links: Links::new(nodes),
            flow: left.to_vec(),
            arc: height.to_vec(),
            dual: vec![0.0; nodes],
            level: vec![0; nodes],
            hung: [0; 2],
            since_resum: 0,
            certain: 0.0,
            largest_cost,
        };
        let mut order = Vec::with_capacity(nodes + 1);
        order.push(nodes as u32);
        let mut seen = vec![false; nodes];
        // First the nodes with mass left, then the sources of what remains, then (of parts there are none) the sinks.
        let tops = (0..nodes).filter(|&node| left[node] > 0).chain(0..nodes);
        for top in tops {
            if !seen[top] {
                tree.hung[usize::from(top < sources)] += 1;
                tree.links.set_parent(top, nodes);
                forest.visit(top, &mut seen, &mut order, |child, parent, branch| {
                    tree.links.set_parent(child, parent);
                    tree.flow[child] = branches[branch].flow;
                    tree.arc[child] = branches[branch].cost;
                });
            }
        }
        tree.links.order(&order);
        tree.resum();
        tree
    }

    /// Flow that still runs over artificial arcs, counted once per unit of mass.
    pub(crate) fn stranded(&self) -> i64 {
        let root = self.flow.len();
        let artificial = (0..root).filter(|&node| self.links.parent(node) == root).map(|node| self.flow[node]);
        artificial.sum::<i64>() / 2
    }

    /// Whether the artificial parts cancel for every arc; once they do they always will.
    pub(crate) fn is_flat(&self) -> bool {
        self.hung.contains(&0)
    }

    /// Calls `visit(source, sink, flow)` for each real tree arc.
    pub(crate) fn for_each_arc(&self, mut visit: impl FnMut(usize, usize, i64)) {
        let root = self.flow.len();
        for (child, &flow) in self.flow.iter().enumerate() {
            let parent = self.links.parent(child);
            if parent != root {
                let (source, sink) = if child < self.sources { (child, parent) } else { (parent, child) };
                visit(source, sink - self.sources, flow);
            }
        }
    }

    /// Whether sending mass round the cycle that the arc `source -> sink` of this `cost` closes lowers the total cost.
    pub(crate) fn improves(&self, source: usize, sink: usize, cost: f64) -> bool {
        let mut nodes = [source, self.sources + sink];
        let levels = self.level[nodes[0]] + self.level[nodes[1]];
        if levels != 0 {
            return levels > 0;
        }
        let reduced = cost - self.dual[nodes[0]] - self.dual[nodes[1]];
        if reduced.abs() > self.certain {
            return reduced < 0.0;
        }
        let mut total = Sum::default();
        total.add(cost);
        // Upwards from both ends, the smaller subtree first; the signs alternate along either path.
        let mut signs = [-1.0, -1.0];
        while nodes[0] != nodes[1] {
            let side = usize::from(self.links.size(nodes[0]) > self.links.size(nodes[1]));
            total.add(signs[side] * self.arc[nodes[side]]);
            signs[side] = -signs[side];
            nodes[side] = self.links.parent(nodes[side]);
        }
        total.is_negative()
    }

    /// Brings the arc `source -> sink` of this `cost` into the tree and takes the blocking arc out.
    pub(crate) fn pivot(&mut self, source: usize, sink: usize, cost: f64) {
        let sink = self.sources + sink;
        let apex = self.links.apex(source, sink);
        let leaving = self.leaving(source, sink, apex);
        if leaving.amount > 0 {
            self.push(source, sink, apex, leaving.amount);
        }
        let (inner, outer) = if leaving.on_source_side { (source, sink) } else { (sink, source) };
        let (change, climb) = (cost - self.dual[source] - self.dual[sink], -(self.level[source] + self.level[sink]));
        if self.links.parent(leaving.child) == self.flow.len() {
            self.hung[usize::from(self.is_source(leaving.child))] -= 1;
        }
        self.turn(inner, leaving, cost);
        self.links.rehang(inner, outer, leaving.child, apex);
        self.shift(inner, change, climb);
        self.since_resum += 1;
        if self.since_resum >= RESUM {
            self.resum();
        }
    }

    fn is_source(&self, node: usize) -> bool {
        node < self.sources
    }

    /// The last blocking arc of the cycle, followed from the apex down to `source`, over the new arc and back up
    /// from `sink`. Taking the last one keeps the tree strongly feasible (Cunningham 1976).
    fn leaving(&self, source: usize, sink: usize, apex: usize) -> Leaving {
        let mut best = Leaving { child: source, on_source_side: true, amount: i64::MAX };
        let mut node = source;
        while node != apex {
            // Pushed downwards here, so an arc that points up (from a source) loses flow.
            if self.is_source(node) && self.flow[node] < best.amount {
                best = Leaving { child: node, on_source_side: true, amount: self.flow[node] };
            }
            node = self.links.parent(node);
        }
        node = sink;
        while node != apex {
            if !self.is_source(node) && self.flow[node] <= best.amount {
                best = Leaving { child: node, on_source_side: false, amount: self.flow[node] };
            }
            node = self.links.parent(node);
        }
        best
    }

    /// Sends `amount` round the cycle.
    fn push(&mut self, source: usize, sink: usize, apex: usize, amount: i64) {
        for (start, up) in [(source, false), (sink, true)] {
            let mut node = start;
            while node != apex {
                let gains = self.is_source(node) == up;
                self.flow[node] += if gains { amount } else { -amount };
                node = self.links.parent(node);
            }
        }
    }

    /// Moves flow and cost of each arc between `inner` and the leaving one to its other end, and gives `inner` the new
    /// arc.
    fn turn(&mut self, inner: usize, leaving: Leaving, cost: f64) {
        let (mut node, mut new) = (inner, (leaving.amount, cost));
        loop {
            let old = (self.flow[node], self.arc[node]);
            (self.flow[node], self.arc[node]) = new;
            if node == leaving.child {
                return;
            }
            (node, new) = (self.links.parent(node), old);
        }
    }

    /// Moves the duals under `inner` by `change` (a source by it, a sink against it, or the other way round where `inner`
    /// is a sink), or all others against it.
    fn shift(&mut self, inner: usize, change: f64, climb: i32) {
        let (mut change, mut climb) = if self.is_source(inner) { (change, climb) } else { (-change, -climb) };
        let nodes = self.flow.len();
        let below = self.links.size(inner) as usize;
        let (mut node, count) = if 2 * below <= nodes {
            (inner, below)
        } else {
            (change, climb) = (-change, -climb);
            (self.links.after(inner), nodes + 1 - below)
        };
        for _ in 0..count {
            if let Some(dual) = self.dual.get_mut(node) {
                *dual += if node < self.sources { change } else { -change };
                if climb != 0 {
                    self.level[node] += if node < self.sources { climb } else { -climb };
                }
            }
            node = self.links.next(node);
        }
    }

    /// Sums all potentials along the tree.
    pub(crate) fn resum(&mut self) {
        let root = self.flow.len();
        let mut node = self.links.next(root);
        let mut largest = self.largest_cost;
        while node != root {
            let parent = self.links.parent(node);
            (self.dual[node], self.level[node]) = if parent == root {
                (self.arc[node], 1)
            } else {
                (self.arc[node] - self.dual[parent], -self.level[parent])
            };
            largest = largest.max(self.dual[node].abs());
            node = self.links.next(node);
        }
        self.certain = DRIFT * largest;
        self.since_resum = 0;
    }

    /// The duals as single numbers that rank arcs: an artificial unit counts `weight`.
    pub(crate) fn prices(&self, weight: f64, u: &mut [f64], v: &mut [f64]) {
        // The levels cancel in a flat tree, but what rounding they would leave does not.
        let weight = if self.is_flat() { 0.0 } else { weight };
        let prices = self.dual.iter().zip(&self.level).map(|(dual, &level)| dual + weight * f64::from(level));
        u.iter_mut().chain(v).zip(prices).for_each(|(out, price)| *out = price);
    }
}

/// The branches by node.
struct Forest {
    first: Vec<u32>,
    ends: Vec<(u32, u32)>,
}

impl Forest {
    fn new(sources: usize, nodes: usize, branches: &[Branch]) -> Self {
        let mut first = vec![0_u32; nodes + 1];
        for branch in branches {
            first[branch.source + 1] += 1;
            first[sources + branch.sink + 1] += 1;
        }
        for node in 0..nodes {
            first[node + 1] += first[node];
        }
        let mut place = first.clone();
        let mut ends = vec![(0, 0); 2 * branches.len()];
        for (k, branch) in branches.iter().enumerate() {
            let (source, sink) = (branch.source, sources + branch.sink);
            for (node, other) in [(source, sink), (sink, source)] {
                ends[place[node] as usize] = (other as u32, k as u32);
                place[node] += 1;
            }
        }
        Self { first, ends }
    }

    /// Appends the part of `top` to `order` in preorder; calls `hang(child, parent, branch)` for each node but `top`.
    fn visit(&self, top: usize, seen: &mut [bool], order: &mut Vec<u32>, mut hang: impl FnMut(usize, usize, usize)) {
        seen[top] = true;
        let mut stack = vec![top as u32];
        while let Some(node) = stack.pop() {
            order.push(node);
            let node = node as usize;
            for &(child, branch) in &self.ends[self.first[node] as usize..self.first[node + 1] as usize] {
                if !seen[child as usize] {
                    seen[child as usize] = true;
                    hang(child as usize, node, branch as usize);
                    stack.push(child);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every arc without flow points to the root, and flows are never negative.
    fn is_strongly_feasible(tree: &Tree) -> bool {
        tree.flow.iter().enumerate().all(|(child, &flow)| flow > 0 || (flow == 0 && tree.is_source(child)))
    }

    /// Whether the moved potentials and the order are those that the parents give.
    fn is_sound(tree: &mut Tree) -> bool {
        let (dual, level) = (tree.dual.clone(), tree.level.clone());
        tree.resum();
        let n = tree.sources;
        let same = |i: usize, j: usize| {
            dual[i] + dual[j] == tree.dual[i] + tree.dual[j] && level[i] + level[j] == tree.level[i] + tree.level[j]
        };
        tree.links.is_sound() && (0..n).all(|i| (n..dual.len()).all(|j| same(i, j)))
    }

    fn pivot_to_the_end(tree: &mut Tree, n: usize, cost: impl Fn(usize, usize) -> f64) {
        let mut pivots = 0;
        while let Some((i, j)) = (0..n * n).map(|k| (k / n, k % n)).find(|&(i, j)| tree.improves(i, j, cost(i, j))) {
            tree.pivot(i, j, cost(i, j));
            assert!(is_strongly_feasible(tree) && is_sound(tree), "after {pivots} pivots");
            pivots += 1;
            assert!(pivots < 5000);
        }
        assert_eq!(tree.stranded(), 0);
        for i in 0..n {
            for j in 0..n {
                assert!(tree.level[i] + tree.level[n + j] <= 0);
                assert!(cost(i, j) >= tree.dual[i] + tree.dual[n + j], "({i}, {j})");
            }
        }
    }

    #[test]
    fn pivots_through_ties_keep_the_tree_strongly_feasible() {
        const N: usize = 7;
        let cost = |i: usize, j: usize| ((3 * i + 5 * j + i * j) % 4) as f64;
        let mut tree = Tree::new(N, &[], &[1; 2 * N], &[0.0; 2 * N], 3.0);
        pivot_to_the_end(&mut tree, N, cost);
    }

    #[test]
    fn pivots_from_a_forest_of_uneven_masses() {
        const N: usize = 11;
        let cost = |i: usize, j: usize| ((7 * i + 5 * j + i * j * j) % 17) as f64;
        let mut left: Vec<i64> =
            (0..2 * N).map(|k| if k < N { 1 + k as i64 } else { 1 + (2 * N - 1 - k) as i64 }).collect();
        let mut branches = Vec::new();
        for (source, sink) in (0..N).map(|k| (k, (3 * k) % N)) {
            let flow = left[source].min(left[N + sink]);
            left[source] -= flow;
            left[N + sink] -= flow;
            branches.push(Branch { source, sink, flow, cost: cost(source, sink) });
        }
        let mut tree = Tree::new(N, &branches, &left, &[2.0; 2 * N], 16.0);
        assert!(is_strongly_feasible(&tree) && is_sound(&mut tree));
        pivot_to_the_end(&mut tree, N, cost);
    }
}
