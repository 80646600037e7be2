//! The conditions of the fault rules, compiled from their Python lambdas (`gateway/core/programs.py`): each is a chain of
//! comparisons, and every comparison says where to go on.

use crate::json::Json;

/// Where a program ends.
const TRUE: u8 = 255;
const FALSE: u8 = 254;
/// Nobody writes longer conditions; the targets of a test are a byte each.
const LONGEST: usize = 250;

/// Outcomes of a comparison that a test accepts; `UNORDERED` is every comparison with nan.
const LESS: u8 = 1;
const EQUAL: u8 = 2;
const GREATER: u8 = 4;
const UNORDERED: u8 = 8;

#[derive(Clone, Copy, Debug)]
enum Right {
    Const,
    /// A slot, plus the constant.
    Sum(u8),
    /// A slot, times the constant.
    Product(u8),
}

#[derive(Clone, Copy, Debug)]
struct Test {
    constant: f64,
    right: Right,
    left: u8,
    accepts: u8,
    yes: u8,
    no: u8,
}

/// A condition on slots (figures of the facts, by number).
#[derive(Clone, Debug)]
pub struct Program {
    tests: Box<[Test]>,
    /// Of a program without tests.
    always: bool,
}

impl Program {
    /// From `true`, `false`, or a list of `[slot, comparison, right, yes, no]`. `right` is a number, or `[slot, "+"|"*", number]`;
    /// `yes` and `no` are `true`, `false` or the number of a later test. None where it is none of these.
    pub fn new(given: &Json, slots: &[&str]) -> Option<Program> {
        if let Json::Bool(always) = given {
            return Some(Program { tests: Box::new([]), always: *always });
        }
        let given = given.items();
        if given.is_empty() || given.len() > LONGEST {
            return None;
        }
        let slot = |name: &Json| slots.iter().position(|known| *known == name.text()).map(|nth| nth as u8);
        let mut tests = Vec::with_capacity(given.len());
        for (nth, one) in given.iter().enumerate() {
            let [left, comparison, right, yes, no] = one.items() else {
                return None;
            };
            let target = |to: &Json| match to {
                Json::Bool(true) => Some(TRUE),
                Json::Bool(false) => Some(FALSE),
                other => other.int().filter(|to| (nth as i64 + 1..given.len() as i64).contains(to)).map(|to| to as u8),
            };
            let (right, constant) = match right.items() {
                [] => (Right::Const, right.num()),
                [name, how, constant] => match how.text() {
                    "+" => (Right::Sum(slot(name)?), constant.num()),
                    "*" => (Right::Product(slot(name)?), constant.num()),
                    _ => return None,
                },
                _ => return None,
            };
            if constant.is_nan() {
                return None;
            }
            let accepts = match comparison.text() {
                "<" => LESS,
                "<=" => LESS | EQUAL,
                "==" => EQUAL,
                "!=" => LESS | GREATER | UNORDERED,
                ">=" => EQUAL | GREATER,
                ">" => GREATER,
                _ => return None,
            };
            tests.push(Test { constant, right, left: slot(left)?, accepts, yes: target(yes)?, no: target(no)? });
        }
        Some(Program { tests: tests.into_boxed_slice(), always: false })
    }

    /// Whether the condition can never hold.
    pub fn is_never(&self) -> bool {
        self.tests.is_empty() && !self.always
    }

    /// Whether the condition holds; `value` gives the figure of a slot.
    #[inline]
    pub fn holds(&self, value: impl Fn(u8) -> f64) -> bool {
        let mut at = 0u8;
        while let Some(test) = self.tests.get(at as usize) {
            let left = value(test.left);
            let right = match test.right {
                Right::Const => test.constant,
                Right::Sum(slot) => value(slot) + test.constant,
                Right::Product(slot) => value(slot) * test.constant,
            };
            let ordered = u8::from(left < right) | u8::from(left == right) << 1 | u8::from(left > right) << 2;
            let outcome = ordered | u8::from(ordered == 0) << 3;
            at = if outcome & test.accepts != 0 { test.yes } else { test.no };
            if at >= FALSE {
                return at == TRUE;
            }
        }
        self.always
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(program: &str, figures: [f64; 2]) -> bool {
        let given = Json::parse(program.as_bytes()).unwrap();
        Program::new(&given, &["a", "b"]).unwrap().holds(|slot| figures[slot as usize])
    }

    #[test]
    fn comparisons_are_those_of_floats() {
        for (sign, less, equal, greater, nan) in [
            ("<", true, false, false, false),
            ("<=", true, true, false, false),
            ("==", false, true, false, false),
            ("!=", true, false, true, true),
            (">=", false, true, true, false),
            (">", false, false, true, false),
        ] {
            let program = format!(r#"[["a","{sign}",2.0,true,false]]"#);
            let found = [1.0, 2.0, 3.0, f64::NAN].map(|figure| holds(&program, [figure, 0.0]));
            assert_eq!(found, [less, equal, greater, nan], "{sign}");
        }
    }

    #[test]
    fn tests_lead_to_tests() {
        let either = r#"[["a","<",1.0,true,1],["b",">",["a","+",1.0],true,false]]"#;
        assert!(holds(either, [0.0, 0.0]));
        assert!(holds(either, [2.0, 3.5]));
        assert!(!holds(either, [2.0, 3.0]));
        assert!(holds("true", [0.0; 2]));
    }

    #[test]
    fn nonsense_is_refused() {
        for program in
            ["[]", "[1]", r#"[["c","<",1,true,false]]"#, r#"[["a","<",1,0,false]]"#, r#"[["a","<",null,true,false]]"#]
        {
            assert!(Program::new(&Json::parse(program.as_bytes()).unwrap(), &["a"]).is_none(), "{program}");
        }
    }
}
