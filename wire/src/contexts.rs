//! Contexts: which network an address belongs to (VLAN, VNI, GRE key, mirror session, tap).
//!
//! Machine builders give every cell the same private addresses, so the context is part of a connection's identity. It is
//! the way from the frame's outside to the packet: every tag and every tunnel with a number of its own is a step. A
//! context is a small number here and text in events: `vlan:120`, `vlan:10.20` for a tag within a tag,
//! `vlan:330/vni:7/vlan:5` for a tag inside a tunnel.
//!
//! Steps that were declared equal are one and the same: the two directions of a link may have different tags.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::packet::Vlans;
pub use crate::packet::tunnel::{Kind, Step};

/// Distinct contexts; beyond, further ones count as what they lie in (`contexts_folded_total`).
pub const CONTEXTS_MAX: usize = 65_536;
/// Equal pairs that can be declared.
pub const EQUAL_MAX: usize = 4096;

/// The context of a packet that has none.
pub const NONE: u32 = 0;

#[derive(Default)]
struct Context {
    text: Option<Arc<str>>,
    last: Option<Kind>,
    vlans: BTreeSet<u16>,
}

/// All contexts seen.
pub struct Contexts {
    pub folded_total: u64,
    contexts: Vec<Context>,
    /// Contexts by the step as it was seen, and by the step that it counts as.
    steps: HashMap<(u32, Step), u32>,
    named: HashMap<(u32, Step), u32>,
    taps: HashMap<String, u32>,
    equal: HashMap<Step, Step>,
    /// Frames of one VLAN come in long runs.
    last: (u32, Vlans, u32),
}

impl Contexts {
    /// `equal`: pairs that are the same network; a chain of pairs is one network, named by its first.
    #[must_use]
    pub fn new(equal: &[(Step, Step)]) -> Self {
        let mut names: HashMap<Step, Step> = HashMap::new();
        for &(one, other) in equal.iter().take(EQUAL_MAX) {
            let name = |step: Step| names.get(&step).copied().unwrap_or(step);
            let (kept, gone) = (name(one), name(other));
            for named in names.values_mut().filter(|named| **named == gone) {
                *named = kept;
            }
            names.insert(gone, kept);
            names.insert(other, kept);
        }
        names.retain(|step, name| step != name);
        let last = (NONE, Vlans::default(), NONE);
        Self {
            folded_total: 0,
            contexts: vec![Context::default()],
            steps: HashMap::new(),
            named: HashMap::new(),
            taps: HashMap::new(),
            equal: names,
            last,
        }
    }

    /// The context of a frame's tags inside another context.
    #[inline]
    pub fn tagged(&mut self, outer: u32, vlans: Vlans) -> u32 {
        if vlans.as_slice().is_empty() {
            return outer;
        }
        if self.last.0 == outer && self.last.1 == vlans {
            return self.last.2;
        }
        let context = vlans.as_slice().iter().fold(outer, |context, id| self.step(context, (Kind::Vlan, u32::from(*id))));
        self.last = (outer, vlans, context);
        context
    }

    /// One step further in.
    pub fn step(&mut self, outer: u32, step: Step) -> u32 {
        if let Some(&known) = self.steps.get(&(outer, step)) {
            return known;
        }
        let named = self.equal.get(&step).copied().unwrap_or(step);
        let context = match self.named.get(&(outer, named)) {
            Some(&known) => known,
            None if self.contexts.len() >= CONTEXTS_MAX => {
                self.folded_total += 1;
                return outer;
            }
            None => self.add(outer, named),
        };
        // With its equals a context is reached by several steps; all their tags are what `inspect` shows.
        if let ((Kind::Vlan, id), Some(context)) = (step, self.contexts.get_mut(context as usize)) {
            context.vlans.insert(id as u16);
        }
        self.steps.insert((outer, step), context);
        context
    }

    fn add(&mut self, outer: u32, (kind, number): Step) -> u32 {
        let within = self.contexts.get(outer as usize);
        let (before, last) = within.map_or((None, None), |context| (context.text.as_deref(), context.last));
        let text = match (before, kind, last) {
            (None, ..) => format!("{}:{number}", kind.name()),
            (Some(before), Kind::Vlan, Some(Kind::Vlan)) => format!("{before}.{number}"),
            (Some(before), ..) => format!("{before}/{}:{number}", kind.name()),
        };
        let vlans = within.map(|context| context.vlans.clone()).unwrap_or_default();
        self.contexts.push(Context { text: Some(Arc::from(text)), last: Some(kind), vlans });
        let context = (self.contexts.len() - 1) as u32;
        self.named.insert((outer, (kind, number)), context);
        context
    }

    /// The context of all that a tap with a name of its own shows.
    pub fn tap(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.taps.get(name) {
            return known;
        }
        if self.contexts.len() >= CONTEXTS_MAX {
            self.folded_total += 1;
            return NONE;
        }
        let text = Some(Arc::from(format!("{}:{name}", Kind::Tap.name())));
        self.contexts.push(Context { text, last: Some(Kind::Tap), vlans: BTreeSet::new() });
        let context = (self.contexts.len() - 1) as u32;
        self.taps.insert(name.to_owned(), context);
        context
    }

    /// What events say; None for a packet without.
    pub fn text(&self, context: u32) -> Option<Arc<str>> {
        self.contexts.get(context as usize)?.text.clone()
    }

    /// Whether two different contexts are the same way with other numbers: a VLAN and a VLAN, a GRE key and a GRE key (also one that
    /// is read as the subnet of NVGRE, which stands in the same field). Taps that were given names are different networks.
    #[must_use]
    pub fn same_kind(&self, one: u32, other: u32) -> bool {
        let (Some(one), Some(other)) = (self.text(one), self.text(other)) else { return false };
        let steps = |text: &str| text.split('/').map(|step| (step.to_owned(), step.matches('.').count())).collect::<Vec<_>>();
        let (one, other) = (steps(&one), steps(&other));
        let kind = |step: &str| match step.split_once(':').map(|(kind, _)| kind) {
            Some(kind) if kind == Kind::Tap.name() => step.to_owned(),
            Some(kind) if kind == Kind::Vsid.name() => Kind::Gre.name().to_owned(),
            kind => kind.unwrap_or_default().to_owned(),
        };
        let same = |((a, depth), (b, other)): (&(String, usize), &(String, usize))| {
            let (a, b) = (kind(a), kind(b));
            a == b && (depth == other || a.starts_with(Kind::Tap.name()))
        };
        one != other && one.len() == other.len() && one.iter().zip(&other).all(same)
    }

    /// The tags on the way, ascending, each once.
    pub fn vlans(&self, context: u32) -> Vec<u16> {
        self.contexts.get(context as usize).map(|context| context.vlans.iter().copied().collect()).unwrap_or_default()
    }
}

/// Reads `120=220`, `vni:7=vni:9`, `vlan:120=vni:7`: a number alone is a VLAN.
///
/// # Errors
/// What was found and what is expected.
pub fn equal_pair(text: &str) -> Result<(Step, Step), String> {
    let wrong = || format!("{text:?}, expected two steps like 120=220 or vni:7=vni:9");
    let step = |text: &str| {
        let (kind, number) = text.split_once(':').unwrap_or(("vlan", text));
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind && *known != Kind::Tap)?;
        let number: u32 = number.parse().ok()?;
        let most = match kind {
            Kind::Vlan => 0xfff,
            Kind::Erspan => 0x3ff,
            Kind::Vni | Kind::Vsid => 0xff_ffff,
            _ => u32::MAX,
        };
        (number <= most).then_some((kind, number))
    };
    let (one, other) = text.split_once('=').ok_or_else(wrong)?;
    match (step(one), step(other)) {
        (Some(one), Some(other)) => Ok((one, other)),
        _ => Err(wrong()),
    }
}

/// Reads `eth3=cell-2`: the interface and the tap it belongs to.
///
/// # Errors
/// What was found and what is expected.
pub fn tap_of(text: &str) -> Result<(String, String), String> {
    let is_name =
        |name: &str| (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match text.split_once('=') {
        Some((interface, tap)) if !interface.is_empty() && is_name(tap) => Ok((interface.to_owned(), tap.to_owned())),
        _ => Err(format!("{text:?}, expected an interface and a tap's name (letters, digits, - _ .) like eth3=cell-2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_of_its_own_is_the_outermost_step() {
        let mut contexts = Contexts::new(&[]);
        let tap = contexts.tap("cell-2");
        assert_eq!(contexts.tap("cell-2"), tap);
        let tagged = contexts.tagged(tap, Vlans::of(&[120]));
        assert_eq!((contexts.text(tap).as_deref(), contexts.text(tagged).as_deref()), (Some("tap:cell-2"), Some("tap:cell-2/vlan:120")));
        assert_ne!(tagged, contexts.tagged(NONE, Vlans::of(&[120])));
        assert_eq!(tap_of("eth3=cell-2"), Ok(("eth3".to_owned(), "cell-2".to_owned())));
        for text in ["eth3", "=cell-2", "eth3=", "eth3=a/b", "eth3=a b"] {
            assert!(tap_of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_context_reads_from_the_outside_to_the_packet() {
        let mut contexts = Contexts::new(&[]);
        let outer = contexts.tagged(NONE, Vlans::of(&[330, 20]));
        let tunnel = contexts.step(outer, (Kind::Vni, 7));
        let inner = contexts.tagged(tunnel, Vlans::of(&[5]));
        assert_eq!(contexts.text(inner).as_deref(), Some("vlan:330.20/vni:7/vlan:5"));
        assert_eq!(contexts.vlans(inner), [5, 20, 330]);
        assert_eq!((contexts.text(NONE), contexts.tagged(NONE, Vlans::default())), (None, NONE));
        assert_eq!(contexts.tagged(NONE, Vlans::of(&[330, 20])), outer, "the same again");
        assert_ne!(contexts.tagged(NONE, Vlans::of(&[20, 330])), outer);
    }

    #[test]
    fn equal_steps_are_one_context_named_by_the_first_whichever_comes_first() {
        let pairs: Vec<_> = ["120=220", "220=320", "vni:7=vni:9"].iter().map(|text| equal_pair(text).unwrap()).collect();
        let mut contexts = Contexts::new(&pairs);
        let ids: Vec<_> = [320, 220, 120].iter().map(|id| contexts.tagged(NONE, Vlans::of(&[*id]))).collect();
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_eq!(contexts.text(ids[0]).as_deref(), Some("vlan:120"));
        assert_eq!(contexts.vlans(ids[0]), [120, 220, 320]);
        assert_eq!(contexts.step(NONE, (Kind::Vni, 9)), contexts.step(NONE, (Kind::Vni, 7)));
        assert_ne!(contexts.step(NONE, (Kind::Gre, 9)), contexts.step(NONE, (Kind::Gre, 7)));
    }

    #[test]
    fn pairs_that_join_two_networks_join_all_of_both() {
        let pairs: Vec<_> = ["1=2", "3=4", "2=3"].iter().map(|text| equal_pair(text).unwrap()).collect();
        let mut contexts = Contexts::new(&pairs);
        let texts: BTreeSet<_> = (1..=4).map(|id| contexts.step(NONE, (Kind::Vlan, id))).collect();
        assert_eq!(texts.len(), 1);
    }

    #[test]
    fn contexts_of_one_kind_differ_in_numbers_alone() {
        let mut contexts = Contexts::new(&[]);
        let [ten, twenty] = [10, 20].map(|id| contexts.tagged(NONE, Vlans::of(&[id])));
        let double = contexts.tagged(NONE, Vlans::of(&[10, 20]));
        let [key, other_key] = [(Kind::Gre, 0), (Kind::Vsid, 0x2_0000)].map(|step| contexts.step(NONE, step));
        let inside = contexts.tagged(key, Vlans::of(&[10]));
        let [a, b] = ["a", "b"].map(|name| contexts.tap(name));
        let [a10, b20, a20] = [(a, 10), (b, 20), (a, 20)].map(|(tap, id)| contexts.tagged(tap, Vlans::of(&[id])));
        for (one, other) in [(ten, twenty), (key, other_key), (a10, a20)] {
            assert!(contexts.same_kind(one, other) && contexts.same_kind(other, one));
        }
        for (one, other) in [(ten, ten), (ten, NONE), (ten, double), (ten, key), (key, inside), (a, b), (a10, b20), (a10, ten)] {
            assert!(!contexts.same_kind(one, other), "{:?} {:?}", contexts.text(one), contexts.text(other));
        }
    }

    #[test]
    fn pairs_that_are_none_are_refused() {
        for text in ["", "120", "120=", "=220", "4096=1", "erspan:1024=erspan:1", "tap:1=tap:2", "a=b", "1=2=3"] {
            assert!(equal_pair(text).is_err(), "{text}");
        }
    }

    #[test]
    fn beyond_the_bound_a_context_counts_as_what_it_lies_in() {
        let mut contexts = Contexts::new(&[]);
        for number in 0..70_000 {
            contexts.step(NONE, (Kind::Vni, number));
        }
        assert_eq!(contexts.contexts.len(), CONTEXTS_MAX);
        assert_eq!(contexts.folded_total, 70_000 - (CONTEXTS_MAX as u64 - 1));
        assert_eq!(contexts.step(NONE, (Kind::Vni, 69_999)), NONE);
        assert_ne!(contexts.step(NONE, (Kind::Vni, 3)), NONE);
    }
}
