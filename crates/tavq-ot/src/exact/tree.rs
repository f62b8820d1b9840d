//! The spanning tree of the simplex: `n` sources, `m` sinks and one root that every node first hangs from.
//!
//! Flows are integers, so ties are exact and a strongly feasible tree stays one: every tree arc without flow points
//! to the root, which rules out cycling. A potential is a pair (units of the artificial cost, ordinary cost)
//! compared lexicographically; no finite "big M" ever mixes with the costs. Potentials are summed along the tree at
//! each move, never corrected in place, so rounding does not pile up over pivots. They only propose an arc: it enters
//! when the cost of its cycle, summed in twice the precision, is below zero. Strong feasibility excludes cycling only
//! when each step is an improvement in exact arithmetic, and a rounded potential can make a tie look like one.

const NONE: u32 = u32::MAX;

/// What one pivot did to the tree.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    child: usize,
    on_source_side: bool,
    amount: i64,
}

/// A rooted spanning tree with the flow of each arc stored at its lower end.
pub(crate) struct Tree {
    sources: usize,
    parent: Vec<u32>,
    flow: Vec<i64>,
    /// Cost of each arc, stored at its lower end; 0 for an artificial one.
    arc: Vec<f64>,
    depth: Vec<u32>,
    first_child: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Ordinary part of the dual of each source, then of each sink.
    pub(crate) dual: Vec<f64>,
    /// Artificial part of the same duals.
    pub(crate) level: Vec<i32>,
    artificial_flow: i64,
    stack: Vec<u32>,
}

impl Tree {
    /// Every node on its own artificial arc to the root, carrying its whole mass.
    pub(crate) fn new(source: &[i64], target: &[i64]) -> Self {
        let (n, m) = (source.len(), target.len());
        let nodes = n + m;
        let root = nodes as u32;
        let flow: Vec<i64> = source.iter().chain(target).copied().collect();
        let mut first_child = vec![NONE; nodes + 1];
        first_child[nodes] = 0;
        Self {
            sources: n,
            parent: vec![root; nodes],
            artificial_flow: flow.iter().sum(),
            flow,
            arc: vec![0.0; nodes],
            depth: (0..=nodes).map(|node| u32::from(node < nodes)).collect(),
            first_child,
            next: (1..=nodes as u32).map(|node| if node == root { NONE } else { node }).collect(),
            previous: (0..nodes as u32).map(|node| node.wrapping_sub(1)).collect(),
            dual: vec![0.0; nodes],
            level: vec![1; nodes],
            stack: Vec::new(),
        }
    }

    /// Flow that still runs over artificial arcs, counted once per unit of mass.
    pub(crate) fn stranded(&self) -> i64 {
        self.artificial_flow / 2
    }

    /// Calls `visit(source, sink, flow)` for each real tree arc.
    pub(crate) fn for_each_arc(&self, mut visit: impl FnMut(usize, usize, i64)) {
        let root = self.parent.len();
        for (child, &parent) in self.parent.iter().enumerate() {
            let parent = parent as usize;
            if parent != root {
                let (source, sink) = if child < self.sources { (child, parent) } else { (parent, child) };
                visit(source, sink - self.sources, self.flow[child]);
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
        let mut total = Sum::default();
        total.add(cost);
        // Upwards from both ends, the deeper one first; the signs alternate along either path.
        let mut signs = [-1.0, -1.0];
        while nodes[0] != nodes[1] {
            let side = usize::from(self.depth[nodes[0]] < self.depth[nodes[1]]);
            total.add(signs[side] * self.arc[nodes[side]]);
            signs[side] = -signs[side];
            nodes[side] = self.parent[nodes[side]] as usize;
        }
        total.is_negative()
    }

    /// Brings the arc `source -> sink` of this `cost` into the tree and takes the blocking arc out.
    pub(crate) fn pivot(&mut self, source: usize, sink: usize, cost: f64) {
        let sink = self.sources + sink;
        let apex = self.apex(source, sink);
        let leaving = self.leaving(source, sink, apex);
        if leaving.amount > 0 {
            self.push(source, sink, apex, leaving.amount);
        }
        let (inner, outer) = if leaving.on_source_side { (source, sink) } else { (sink, source) };
        self.rehang(inner, outer, cost, leaving);
        self.refresh(inner);
    }

    fn is_source(&self, node: usize) -> bool {
        node < self.sources
    }

    /// Lowest common ancestor.
    fn apex(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            if self.depth[a] >= self.depth[b] {
                a = self.parent[a] as usize;
            } else {
                b = self.parent[b] as usize;
            }
        }
        a
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
            node = self.parent[node] as usize;
        }
        node = sink;
        while node != apex {
            if !self.is_source(node) && self.flow[node] <= best.amount {
                best = Leaving { child: node, on_source_side: false, amount: self.flow[node] };
            }
            node = self.parent[node] as usize;
        }
        best
    }

    /// Sends `amount` round the cycle.
    fn push(&mut self, source: usize, sink: usize, apex: usize, amount: i64) {
        let root = self.parent.len();
        for (start, up) in [(source, false), (sink, true)] {
            let mut node = start;
            while node != apex {
                let gains = self.is_source(node) == up;
                let change = if gains { amount } else { -amount };
                self.flow[node] += change;
                let parent = self.parent[node] as usize;
                if parent == root {
                    self.artificial_flow += change;
                }
                node = parent;
            }
        }
    }

    /// Hangs the subtree under the leaving arc onto `outer` by its node `inner` and an arc of this `cost`, turning the
    /// path between them round.
    fn rehang(&mut self, inner: usize, outer: usize, cost: f64, leaving: Leaving) {
        let (mut node, mut new_parent) = (inner, outer);
        let mut new = (leaving.amount, cost);
        loop {
            let old_parent = self.parent[node] as usize;
            let old = (self.flow[node], self.arc[node]);
            self.detach(node, old_parent);
            self.attach(node, new_parent);
            (self.flow[node], self.arc[node]) = new;
            if node == leaving.child {
                return;
            }
            (new_parent, new, node) = (node, old, old_parent);
        }
    }

    fn detach(&mut self, node: usize, parent: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        if previous == NONE {
            self.first_child[parent] = next;
        } else {
            self.next[previous as usize] = next;
        }
        if next != NONE {
            self.previous[next as usize] = previous;
        }
    }

    fn attach(&mut self, node: usize, parent: usize) {
        let first = self.first_child[parent];
        self.next[node] = first;
        self.previous[node] = NONE;
        if first != NONE {
            self.previous[first as usize] = node as u32;
        }
        self.first_child[parent] = node as u32;
        self.parent[node] = parent as u32;
    }

    /// Depths and duals of the subtree under `top`, whose arc to its parent is a real one.
    fn refresh(&mut self, top: usize) {
        self.stack.push(top as u32);
        while let Some(node) = self.stack.pop() {
            let node = node as usize;
            let parent = self.parent[node] as usize;
            self.dual[node] = self.arc[node] - self.dual[parent];
            self.level[node] = -self.level[parent];
            self.depth[node] = self.depth[parent] + 1;
            let mut child = self.first_child[node];
            while child != NONE {
                self.stack.push(child);
                child = self.next[child as usize];
            }
        }
    }
}

/// A sum in twice the precision of f64 (two-sum: Knuth 1969), with what bounds its own error.
#[derive(Default)]
struct Sum {
    high: f64,
    low: f64,
    magnitude: f64,
    terms: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        let high = self.high + value;
        let part = high - self.high;
        self.low += (self.high - (high - part)) + (value - part);
        self.high = high;
        self.magnitude += value.abs();
        self.terms += 1.0;
    }

    /// Whether the sum is below zero whatever its rounding.
    fn is_negative(&self) -> bool {
        self.high + self.low < -(self.terms * f64::EPSILON).powi(2) * self.magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every arc without flow points to the root, and flows are never negative.
    fn is_strongly_feasible(tree: &Tree) -> bool {
        tree.flow.iter().enumerate().all(|(child, &flow)| flow > 0 || (flow == 0 && tree.is_source(child)))
    }

    #[test]
    fn pivots_through_ties_keep_the_tree_strongly_feasible() {
        const N: usize = 7;
        let cost = |i: usize, j: usize| ((3 * i + 5 * j + i * j) % 4) as f64;
        let mut tree = Tree::new(&[1; N], &[1; N]);
        let mut pivots = 0;
        while let Some((i, j)) = (0..N * N).map(|k| (k / N, k % N)).find(|&(i, j)| tree.improves(i, j, cost(i, j))) {
            tree.pivot(i, j, cost(i, j));
            assert!(is_strongly_feasible(&tree), "after {pivots} pivots");
            pivots += 1;
            assert!(pivots < 1000);
        }
        assert_eq!(tree.stranded(), 0);
        for i in 0..N {
            for j in 0..N {
                assert!(tree.level[i] + tree.level[N + j] <= 0);
                assert!(cost(i, j) >= tree.dual[i] + tree.dual[N + j], "({i}, {j})");
            }
        }
    }

    #[test]
    fn a_sum_sees_what_rounding_hides_and_no_more() {
        let sum = |values: &[f64]| {
            let mut sum = Sum::default();
            values.iter().for_each(|&value| sum.add(value));
            sum
        };
        assert!(sum(&[1e20, -1.0, -1e20]).is_negative());
        assert!(!sum(&[1e20, 1.0, -1e20]).is_negative());
        assert!(!sum(&[0.1, 0.2, -0.2, -0.1]).is_negative());
        assert!(!sum(&[1e150, 3.0, -1e150, -3.0]).is_negative());
        assert!(!Sum::default().is_negative());
    }
}
