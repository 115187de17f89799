//! Tests that the ledgers in Lua and in Rust return equal results. The Lua code runs in an
//! interpreter of Redis's version, with a replacement of the Redis commands. `tests/replicas` runs
//! it in Redis.

use std::time::Duration;

use mlua::{Function, Lua, Table};

use super::client::SOURCE;
use super::ledger::Ledger;
use super::message::{Answer, Call, Line, Note, Returned, ScopeKey, WHOLE};

/// The Redis commands that the ledger uses, on Lua tables. Packing copies a table.
const COMMANDS: &str = "
local data = {}
local function copy(t) local c = {} for k, v in pairs(t) do c[k] = v end return c end
cmsgpack = { pack = copy, unpack = copy }
local function key(k) data[k] = data[k] or {} return data[k] end
local commands = {
  TIME = function() return { tostring(math.floor(now / 1000)), tostring(now % 1000 * 1000) } end,
  HMGET = function(k, ...)
    local found = {}
    for i, field in ipairs({ ... }) do
      local value = key(k)[field]
      if value == nil then value = false end
      found[i] = type(value) == 'number' and tostring(value) or value
    end
    return found
  end,
  HSET = function(k, ...)
    local all = { ... }
    for i = 1, #all, 2 do key(k)[all[i]] = all[i + 1] end
  end,
  HDEL = function(k, ...) for _, field in ipairs({ ... }) do key(k)[field] = nil end end,
  HSCAN = function(k)
    local all = {}
    for field, value in pairs(key(k)) do all[#all + 1] = field all[#all + 1] = value end
    return { '0', all }
  end,
  PEXPIRE = function() end,
  ZADD = function(k, score, member) key(k)[member] = score end,
  ZREM = function(k, ...) for _, member in ipairs({ ... }) do key(k)[member] = nil end end,
  ZCARD = function(k) local n = 0 for _ in pairs(key(k)) do n = n + 1 end return n end,
  ZRANGE = function(k, first, last)
    local all = {}
    for member, score in pairs(key(k)) do all[#all + 1] = { score, member } end
    table.sort(all, function(a, b) return a[1] < b[1] end)
    local members = {}
    for i = first + 1, math.min(last + 1, #all) do members[#members + 1] = all[i][2] end
    return members
  end,
  ZRANGEBYSCORE = function(k, from)
    local all = {}
    for member, score in pairs(key(k)) do
      if score > tonumber(string.sub(from, 2)) then all[#all + 1] = { score, member } end
    end
    table.sort(all, function(a, b) return a[1] < b[1] end)
    local members = {}
    for i = 1, math.min(#all, 256) do members[i] = all[i][2] end
    return members
  end,
}
redis = { call = function(name, ...) return commands[name](...) end }
function forget() data = {} end
";

struct Redis(Lua, Function);

impl Redis {
    fn new() -> Self {
        let lua = Lua::new();
        lua.load(COMMANDS).exec().expect("the commands load");
        let ledger = lua.load(SOURCE).into_function().expect("the ledger loads");
        Self(lua, ledger)
    }

    fn execute(&self, call: &Call, now: u64) -> Answer {
        let globals = self.0.globals();
        globals.set("now", now).expect("a number");
        globals.set("KEYS", ["replicas", "notes", "order"]).expect("names");
        globals.set("ARGV", call.arguments()).expect("words");
        let answer: Table = self.1.call(()).expect("the ledger runs");
        let get = |of: i64| answer.get::<u64>(of).expect("a number");
        let numbers = answer.get(5).expect("numbers");
        let texts = |of: i64| answer.get::<Vec<String>>(of).expect("texts");
        let returned: Returned = (get(1), get(2), get(3), get(4), numbers, texts(6), texts(7));
        Answer::read(returned, call).expect("it answers the call")
    }
}

fn lines(rng: &mut fastrand::Rng, scopes: u64) -> Vec<Line> {
    let some = |rng: &mut fastrand::Rng, most: u32| if rng.bool() { rng.u32(..=most) } else { 0 };
    let keys = (0..scopes).filter(|_| rng.u8(..4) > 0).collect::<Vec<_>>();
    let line = |key| Line {
        key: ScopeKey { owner: 1, family: key },
        held: 0,
        unused_returned: some(rng, WHOLE / 4),
        need: some(rng, WHOLE),
        weight: rng.u32(1..=9),
        requests: rng.u64(..1000),
        tokens: rng.u64(..1 << 40),
    };
    keys.into_iter().map(line).collect()
}

#[test]
fn lua_and_rust_agree() {
    let mut recalled = 0;
    for seed in 0..10 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (redis, mut ledger) = (Redis::new(), Ledger::default());
        let mut now = 1_790_000_000_000;
        let replicas = rng.u64(1..=9);
        let mut held = [[0_u32; 4]; 9];
        for step in 0..400 {
            now += match rng.u8(..40) {
                0 => rng.u64(..90_000),
                _ => rng.u64(..600),
            };
            let which = rng.u64(..replicas);
            let mut call = Call {
                id: format!("{which:016x}"),
                lease: Duration::from_millis(if rng.u8(..50) == 0 { 0 } else { 3000 }),
                lines: lines(&mut rng, 4),
                ..Call::default()
            };
            let held = &mut held[usize::try_from(which).expect("small")];
            for line in &mut call.lines {
                let held = held[usize::try_from(line.key.family).expect("small")];
                // Mostly the granted part; sometimes less, or more than the ledger knows.
                line.held = match rng.u8(..20) {
                    0 => rng.u32(..=held),
                    1 => rng.u32(..WHOLE / 3),
                    _ => held,
                };
            }
            let answer = redis.execute(&call, now);
            assert_eq!(answer, ledger.execute(&call, now), "seed {seed}, step {step}: {call:?}");
            let reported = call.lines.iter().map(|line| line.key).zip(answer.grants.iter().copied());
            recalled += answer.recalled.len();
            for (key, grant) in reported.chain(answer.recalled) {
                held[usize::try_from(key.family).expect("small")] = grant.part;
            }
        }
    }
    assert!(recalled > 50, "{recalled}");
}

#[test]
fn each_other_replica_receives_a_note_once_while_it_is_valid() {
    let redis = Redis::new();
    let note = |field: &str, text: &str| Note {
        field: field.to_owned(),
        ttl: Duration::from_secs(5),
        text: text.to_owned(),
    };
    let call = |id: &str, seen, notes: &[Note]| Call {
        id: id.to_owned(),
        lease: Duration::from_secs(3),
        seen,
        notes: notes.to_vec(),
        ..Call::default()
    };
    let texts = |answer: &Answer| answer.notes.iter().map(|note| note.text.clone()).collect::<Vec<_>>();
    redis.execute(&call("a", 0, &[note("1.2l", "one"), note("1.2p", "two")]), 1_000_000);
    let received = redis.execute(&call("b", 0, &[]), 1_000_500);
    assert_eq!((texts(&received), received.seen), (vec!["one".to_owned(), "two".to_owned()], 2));
    assert_eq!(received.notes[0].ttl, Duration::from_millis(4500));
    assert_eq!(texts(&redis.execute(&call("b", 2, &[]), 1_001_000)), [""; 0]);
    assert_eq!(texts(&redis.execute(&call("a", 0, &[]), 1_001_000)), [""; 0], "its own are no news");
    // A second note replaces the first of its kind, and an expired one is not sent.
    redis.execute(&call("a", 0, &[note("1.2l", "three")]), 1_005_100);
    assert_eq!(texts(&redis.execute(&call("c", 0, &[]), 1_005_200)), ["three"]);
    // After a loss the numbers start again.
    redis.0.load("forget()").exec().expect("forgets");
    redis.execute(&call("a", 3, &[note("1.2l", "four")]), 1_006_000);
    assert_eq!(texts(&redis.execute(&call("b", 3, &[]), 1_006_000)), ["four"]);
    // Over the bound: the oldest notes are dropped.
    for call_of in 0..21 {
        let many = (0..200).map(|number| note(&format!("{call_of:x}.{number:x}l"), "x")).collect::<Vec<_>>();
        redis.execute(&call("a", 0, &many), 1_007_000);
    }
    let count: i64 = redis.0.load("return redis.call('ZCARD', 'order')").eval().expect("a number");
    assert!(count <= 4096, "{count}");
}
