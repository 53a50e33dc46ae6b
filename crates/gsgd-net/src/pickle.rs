//! What PyTorch's reader does not tell of a file: the order of its tensors, and which of them share memory.
//!
//! A state dict is a pickle: a program for a machine with a stack. This one carries out what makes dictionaries and
//! tensors, and takes everything else for something that it does not look into.

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};

use anyhow::{Context, Result, bail, ensure};

/// A tensor of a state dict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its path through the file's dictionaries.
    pub path: String,
    /// Its name in the state dict: the path without the keys that lead to it.
    pub name: String,
    /// Another tensor that it shares memory with.
    pub shares: Option<String>,
    /// Which of the file's pieces of memory it lies in.
    pub storage: String,
    /// Its first number there; none where its numbers do not lie there one after the other.
    pub start: Option<u64>,
}

/// Keys of a checkpoint under which a state dict lies.
const CONTAINERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];
/// Bytes of a pickle at most: what PyTorch's reader takes, too.
const LARGEST: u64 = 100 << 20;
/// Dictionaries within dictionaries at most.
const DEEPEST: usize = 64;

/// The tensors of a file of `torch.save` in its order: those under a key, or where state dicts usually lie.
///
/// # Errors
/// The file is none, or made in a way that is not followed here.
pub fn stored(file: &[u8], key: Option<&str>) -> Result<Vec<Stored>> {
    let mut machine = Machine::default();
    let root = if file.starts_with(b"PK\x03\x04") {
        machine.run(&mut pickle_in_zip(file)?.as_slice())?
    } else {
        // before PyTorch 1.6: a magic number, a version, facts about the system, and then the object
        let mut rest = file;
        for _ in 0..3 {
            machine.run(&mut rest)?;
        }
        machine.run(&mut rest)?
    };
    let (root, above) = match key {
        Some(key) => machine.under(root, key)?,
        None => machine.state_dict(root),
    };
    let mut walk = Walk {
        left: 16 * machine.objects.len(),
        found: Vec::new(),
    };
    machine.tensors(root, String::new(), 0, &mut walk)?;
    let mut last: HashMap<String, View> = HashMap::new();
    let mut order = Vec::new();
    for (name, view) in walk.found {
        if last.insert(name.clone(), view).is_none() {
            order.push(name);
        }
    }
    let shares = shares(&last);
    let stored = order.into_iter().map(|name| {
        let view = &last[&name];
        Stored {
            path: format!("{above}{name}"),
            shares: shares.get(&name).cloned(),
            storage: view.storage.clone(),
            start: view.in_turn.then_some(view.start),
            name,
        }
    });
    Ok(stored.collect())
}

fn pickle_in_zip(file: &[u8]) -> Result<Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(file))?;
    let names = archive.file_names().filter_map(Result::ok);
    let name = names
        .map(String::from)
        .find(|name| name == "data.pkl" || name.ends_with("/data.pkl"));
    let name = name.context("there is no data.pkl in it")?;
    let mut pickle = Vec::new();
    archive
        .by_name(&name)?
        .take(LARGEST)
        .read_to_end(&mut pickle)?;
    Ok(pickle)
}

/// By name, another tensor whose memory a tensor's overlaps, or the tensor itself where its own numbers do.
fn shares(all: &HashMap<String, View>) -> HashMap<String, String> {
    let mut by_storage: BTreeMap<&str, Vec<(&View, &str)>> = BTreeMap::new();
    for (name, view) in all.iter().filter(|(_, view)| view.start < view.end) {
        let views = by_storage.entry(&view.storage).or_default();
        views.push((view, name));
    }
    let mut shares = HashMap::new();
    for mut views in by_storage.into_values() {
        views.sort_by_key(|(view, name)| (view.start, *name));
        let mut reaching: Option<(&View, &str)> = None;
        for (view, name) in views {
            if view.folded {
                shares.insert(name.to_string(), name.to_string());
            }
            if let Some((before, other)) = reaching
                && view.start < before.end
            {
                shares.insert(name.to_string(), other.to_string());
                shares.insert(other.to_string(), name.to_string());
            }
            if reaching.is_none_or(|(before, _)| before.end < view.end) {
                reaching = Some((view, name));
            }
        }
    }
    shares
}

/// Where a tensor's numbers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    storage: String,
    start: u64,
    end: u64,
    /// Whether one number in memory is several of the tensor's.
    folded: bool,
    /// Whether its numbers lie one after the other.
    in_turn: bool,
}

/// A walk through dictionaries.
struct Walk {
    /// Objects that it may still see.
    left: usize,
    found: Vec<(String, View)>,
}

/// What a pickle makes, by its place in the list of all.
type Place = usize;

#[derive(Debug, Clone)]
enum Object {
    Text(String),
    Whole(i64),
    List(Vec<Place>),
    Dict(Vec<(Place, Place)>),
    /// A class or function.
    Global(String),
    Storage {
        key: String,
        whole: bool,
    },
    Tensor(View),
    Other,
}

#[derive(Default)]
struct Machine {
    objects: Vec<Object>,
    stack: Vec<Place>,
    marks: Vec<usize>,
    memo: HashMap<u64, Place>,
}

impl Machine {
    /// Carries out one pickle, and takes its bytes.
    fn run(&mut self, rest: &mut &[u8]) -> Result<Place> {
        self.stack.clear();
        self.marks.clear();
        self.memo.clear();
        loop {
            let [code] = take(rest)?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code, rest)
                .with_context(|| format!("its pickle is not understood at code {code:#x}"))?;
        }
    }

    fn step(&mut self, code: u8, rest: &mut &[u8]) -> Result<()> {
        match code {
            // protocol, frame
            0x80 => drop(take::<1>(rest)?),
            0x95 => drop(take::<8>(rest)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // None, True, False, numbers that are no sizes
            b'N' | 0x88 | 0x89 => self.push(Object::Other),
            b'F' => {
                line(rest)?;
                self.push(Object::Other);
            }
            b'G' => {
                take::<8>(rest)?;
                self.push(Object::Other);
            }
            b'I' | b'L' => {
                let digits = line(rest)?;
                let number = digits.trim_end_matches('L').parse();
                self.push(number.map_or(Object::Other, Object::Whole));
            }
            b'J' => {
                let number = i32::from_le_bytes(take(rest)?);
                self.push(Object::Whole(number.into()));
            }
            b'K' => {
                let number = length::<1>(rest)?;
                self.push(Object::Whole(number as i64));
            }
            b'M' => {
                let number = length::<2>(rest)?;
                self.push(Object::Whole(number as i64));
            }
            0x8a | 0x8b => {
                let size = match code {
                    0x8a => length::<1>(rest)?,
                    _ => length::<4>(rest)?,
                };
                let bytes = part(rest, size)?;
                self.push(whole(bytes));
            }
            b'S' | b'V' => {
                let text = line(rest)?;
                let text = text.trim_matches(['\'', '"']).to_string();
                self.push(Object::Text(text));
            }
            b'U' | 0x8c => self.text::<1>(rest)?,
            b'T' | b'X' => self.text::<4>(rest)?,
            0x8d => self.text::<8>(rest)?,
            b'C' => self.bytes::<1>(rest)?,
            b'B' => self.bytes::<4>(rest)?,
            0x8e | 0x96 => self.bytes::<8>(rest)?,
            b']' | b')' | 0x8f => self.push(Object::List(Vec::new())),
            b'l' | b't' | 0x91 => {
                let items = self.since_mark()?;
                self.push(Object::List(items));
            }
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(code - 0x84));
                let items = self.stack.split_off(first.context("its stack is empty")?);
                self.push(Object::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(&items)?;
            }
            b'}' => self.push(Object::Dict(Vec::new())),
            b'd' => {
                let items = self.since_mark()?;
                self.push(Object::Dict(Vec::new()));
                self.set(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.since_mark()?;
                self.set(&items)?;
            }
            b'c' => {
                let (module, name) = (line(rest)?, line(rest)?);
                self.push(Object::Global(format!("{module} {name}")));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (&self.objects[module], &self.objects[name]) {
                    (Object::Text(module), Object::Text(name)) => format!("{module} {name}"),
                    _ => bail!("a name is no text"),
                };
                self.push(Object::Global(global));
            }
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(function, arguments, 0)?;
                self.push(made);
            }
            0x92 => {
                let made = Object::Other;
                self.pop()?;
                self.pop()?;
                self.pop()?;
                self.push(made);
            }
            b'i' => {
                line(rest)?;
                line(rest)?;
                self.since_mark()?;
                self.push(Object::Other);
            }
            b'o' => {
                self.since_mark()?;
                self.push(Object::Other);
            }
            b'b' => self.build()?,
            b'P' => {
                line(rest)?;
                self.push(Object::Other);
            }
            b'Q' => {
                let about = self.pop()?;
                let storage = self.storage(about);
                self.push(storage);
            }
            b'p' => self.remember(line(rest)?.parse()?)?,
            b'q' => self.remember(length::<1>(rest)?)?,
            b'r' => self.remember(length::<4>(rest)?)?,
            0x94 => self.remember(self.memo.len() as u64)?,
            b'g' => self.recall(line(rest)?.parse()?)?,
            b'h' => self.recall(length::<1>(rest)?)?,
            b'j' => self.recall(length::<4>(rest)?)?,
            _ => bail!("there is no such code"),
        }
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn text<const N: usize>(&mut self, rest: &mut &[u8]) -> Result<()> {
        let size = length::<N>(rest)?;
        let text = String::from_utf8_lossy(part(rest, size)?).into_owned();
        self.push(Object::Text(text));
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, rest: &mut &[u8]) -> Result<()> {
        let size = length::<N>(rest)?;
        part(rest, size)?;
        self.push(Object::Other);
        Ok(())
    }

    fn top(&self) -> Result<Place> {
        self.stack.last().copied().context("its stack is empty")
    }

    fn pop(&mut self) -> Result<Place> {
        self.stack.pop().context("its stack is empty")
    }

    fn since_mark(&mut self) -> Result<Vec<Place>> {
        let mark = self.marks.pop().context("there is no mark")?;
        ensure!(mark <= self.stack.len(), "its stack is empty");
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, at: u64) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u64) -> Result<()> {
        let place = self.memo.get(&at).copied();
        self.stack.push(place.context("there is no such memo")?);
        Ok(())
    }

    fn extend(&mut self, items: &[Place]) -> Result<()> {
        let top = self.top()?;
        if let Object::List(list) = &mut self.objects[top] {
            list.extend(items);
        }
        Ok(())
    }

    /// Keys and values by turns into the dictionary on the stack; an object of another class becomes one.
    fn set(&mut self, items: &[Place]) -> Result<()> {
        let top = self.top()?;
        let object = &mut self.objects[top];
        if matches!(object, Object::Other) {
            *object = Object::Dict(Vec::new());
        }
        let Object::Dict(dict) = object else {
            bail!("a value is set in what is no dictionary");
        };
        let (pairs, rest) = items.as_chunks::<2>();
        ensure!(rest.is_empty(), "a key has no value");
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn list(&self, place: Place) -> &[Place] {
        match &self.objects[place] {
            Object::List(items) => items,
            _ => &[],
        }
    }

    fn wholes(&self, place: Place) -> Option<Vec<u64>> {
        let whole = |&item: &Place| match self.objects[item] {
            Object::Whole(number) => u64::try_from(number).ok(),
            _ => None,
        };
        self.list(place).iter().map(whole).collect()
    }

    fn call(&self, function: Place, arguments: Place, depth: usize) -> Result<Object> {
        ensure!(depth < DEEPEST, "calls within calls");
        let Object::Global(name) = &self.objects[function] else {
            return Ok(Object::Other);
        };
        let arguments = self.list(arguments);
        Ok(match (name.as_str(), arguments) {
            ("collections OrderedDict", []) => Object::Dict(Vec::new()),
            ("collections OrderedDict", &[items, ..]) => {
                let pairs = self.list(items).iter().map(|&pair| match *self.list(pair) {
                    [key, value] => Ok((key, value)),
                    _ => bail!("an item of a dictionary is no pair"),
                });
                Object::Dict(pairs.collect::<Result<_>>()?)
            }
            (
                "torch._utils _rebuild_tensor"
                | "torch._utils _rebuild_tensor_v2"
                | "torch._utils _rebuild_tensor_v3",
                &[storage, offset, size, stride, ref rest @ ..],
            ) => {
                // behind requires_grad and hooks: facts such as that all numbers are read with the other sign
                let facts = rest.iter().skip(2);
                let read_otherwise = |&fact: &Place| {
                    self.get(fact, "neg").is_some() || self.get(fact, "conj").is_some()
                };
                ensure!(
                    !facts.into_iter().any(read_otherwise),
                    "a tensor is stored with other signs than it has (a view of PyTorch: resolve_neg() or clone() it)"
                );
                Object::Tensor(self.view(storage, offset, size, stride)?)
            }
            (
                "torch._utils _rebuild_parameter" | "torch._utils _rebuild_parameter_with_state",
                &[tensor, ..],
            ) => self.objects[tensor].clone(),
            ("torch._tensor _rebuild_from_type_v2", &[function, _, arguments, ..]) => {
                self.call(function, arguments, depth + 1)?
            }
            _ => Object::Other,
        })
    }

    fn view(&self, storage: Place, offset: Place, size: Place, stride: Place) -> Result<View> {
        let Object::Storage { key, whole } = &self.objects[storage] else {
            bail!("a tensor has no storage");
        };
        let Object::Whole(offset) = self.objects[offset] else {
            bail!("a tensor's place is no number");
        };
        let offset = u64::try_from(offset)?;
        let (size, stride) = (self.wholes(size), self.wholes(stride));
        let (Some(size), Some(stride)) = (size, stride) else {
            bail!("a tensor's sizes are no numbers");
        };
        let count = size.iter().fold(1u64, |n, &d| n.saturating_mul(d));
        let reach = size.iter().zip(&stride).fold(1u64, |reach, (&size, step)| {
            reach.saturating_add(size.saturating_sub(1).saturating_mul(*step))
        });
        let (start, end) = match (count, whole) {
            (0, _) => (0, 0),
            (_, true) => (0, u64::MAX),
            _ => (offset, offset.saturating_add(reach)),
        };
        let mut step = 1u64;
        let in_turn = size.iter().zip(&stride).rev().all(|(&size, &stride)| {
            let fits = size <= 1 || stride == step;
            step = step.saturating_mul(size);
            fits
        });
        Ok(View {
            storage: key.clone(),
            start,
            end,
            folded: count > reach,
            in_turn: in_turn && !whole,
        })
    }

    /// What `('storage', type, key, place, count)` stands for.
    fn storage(&self, about: Place) -> Object {
        match *self.list(about) {
            [_, _, key, _, _, ref rest @ ..] => {
                let key = match &self.objects[key] {
                    Object::Text(key) => key.clone(),
                    Object::Whole(key) => key.to_string(),
                    _ => return Object::Other,
                };
                // storages within storages, as they once were, are taken to be all of them
                let inside = rest.first().map(|&view| &self.objects[view]);
                let whole = inside.is_some_and(|view| !matches!(view, Object::Other));
                Object::Storage { key, whole }
            }
            _ => Object::Other,
        }
    }

    /// Gives an object its attributes; those of a module are its state dict.
    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let object = self.top()?;
        if !matches!(self.objects[object], Object::Other) {
            return Ok(());
        }
        let table = |name: &str| self.get(state, name);
        let hidden = table("_non_persistent_buffers_set");
        let hidden: Vec<&str> = hidden
            .map(|set| self.list(set))
            .unwrap_or_default()
            .iter()
            .filter_map(|&name| self.key(name))
            .collect();
        let mut all = Vec::new();
        for name in ["_parameters", "_buffers", "_modules"] {
            if let Some(Object::Dict(pairs)) = table(name).map(|place| &self.objects[place]) {
                let shown = pairs.iter().filter(|(key, _)| {
                    let key = self.key(*key);
                    name != "_buffers" || key.is_none_or(|key| !hidden.contains(&key))
                });
                all.extend(shown);
            }
        }
        if !all.is_empty() {
            self.objects[object] = Object::Dict(all);
        }
        Ok(())
    }

    fn key(&self, place: Place) -> Option<&str> {
        match &self.objects[place] {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    fn get(&self, dict: Place, name: &str) -> Option<Place> {
        let Object::Dict(pairs) = &self.objects[dict] else {
            return None;
        };
        let mut pairs = pairs.iter().rev();
        pairs
            .find(|(key, _)| self.key(*key) == Some(name))
            .map(|(_, value)| *value)
    }

    /// The state dict inside a checkpoint, and the path to it.
    fn state_dict(&self, mut root: Place) -> (Place, String) {
        let mut above = String::new();
        for container in CONTAINERS {
            if let Some(inner) = self.get(root, container)
                && let Object::Dict(pairs) = &self.objects[inner]
                && !pairs.is_empty()
            {
                root = inner;
                above += container;
                above.push('.');
            }
        }
        (root, above)
    }

    /// The dictionary under a key, or under keys with dots between them.
    fn under(&self, mut root: Place, key: &str) -> Result<(Place, String)> {
        for part in key.split('.') {
            root = match self.get(root, part) {
                Some(inner) if matches!(self.objects[inner], Object::Dict(_)) => inner,
                _ => bail!(
                    "there is no dictionary under `{key}`; the file has {}",
                    self.keys(root).join(", ")
                ),
            };
        }
        Ok((root, format!("{key}.")))
    }

    /// The keys of a dictionary under which there are others.
    fn keys(&self, place: Place) -> Vec<String> {
        let Object::Dict(pairs) = &self.objects[place] else {
            return Vec::new();
        };
        let inner = pairs.iter().filter_map(|&(key, value)| {
            match (&self.objects[key], &self.objects[value]) {
                (Object::Text(key), Object::Dict(_)) => Some(format!("`{key}`")),
                _ => None,
            }
        });
        inner.collect()
    }

    /// The tensors within an object, in its order.
    fn tensors(&self, place: Place, path: String, depth: usize, walk: &mut Walk) -> Result<()> {
        // dictionaries may lie in several others each
        walk.left = walk.left.saturating_sub(1);
        ensure!(
            depth < DEEPEST && walk.left > 0,
            "its dictionaries lie too deep"
        );
        let below = |leaf: String| match path.is_empty() {
            true => leaf,
            false => format!("{path}.{leaf}"),
        };
        match &self.objects[place] {
            Object::Tensor(view) => walk.found.push((path, view.clone())),
            Object::Dict(pairs) => {
                for &(key, value) in pairs {
                    let key = match &self.objects[key] {
                        Object::Text(key) => key.clone(),
                        Object::Whole(key) => key.to_string(),
                        _ => continue,
                    };
                    self.tensors(value, below(key), depth + 1, walk)?;
                }
            }
            Object::List(items) => {
                for (at, &item) in items.iter().enumerate() {
                    self.tensors(item, below(at.to_string()), depth + 1, walk)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn part<'a>(rest: &mut &'a [u8], size: u64) -> Result<&'a [u8]> {
    let split = usize::try_from(size)
        .ok()
        .and_then(|n| rest.split_at_checked(n));
    let (part, after) = split.context("it is cut off")?;
    *rest = after;
    Ok(part)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    Ok(part(rest, N as u64)?.try_into()?)
}

/// A number of N bytes, at most 8.
fn length<const N: usize>(rest: &mut &[u8]) -> Result<u64> {
    let bytes: [u8; N] = take(rest)?;
    let mut number = [0; 8];
    number[..N].copy_from_slice(&bytes);
    Ok(u64::from_le_bytes(number))
}

fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a str> {
    let end = rest.iter().position(|&byte| byte == b'\n');
    let text = part(rest, end.context("it is cut off")? as u64)?;
    part(rest, 1)?;
    Ok(std::str::from_utf8(text)?)
}

/// A number in two's complement of any length, as far as it is one of 64 bits.
fn whole(bytes: &[u8]) -> Object {
    if bytes.len() > 8 {
        return Object::Other;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut number = [if negative { 0xff } else { 0 }; 8];
    number[..bytes.len()].copy_from_slice(bytes);
    Object::Whole(i64::from_le_bytes(number))
}
