//! SPDX licence expressions: is there a way to use the package that we take?
//!
//! ```text
//! expression = all { "OR" all }        older packages write "/" for "OR"
//! all        = one { "AND" one }
//! one        = "(" expression ")" | licence [ "WITH" exception ]
//! ```

/// Tells whether `expression` can be met with licences that `taken` accepts. An exception only
/// adds rights, so it does not count.
pub(crate) fn allows(expression: &str, taken: impl Fn(&str) -> bool) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let mut words = Words {
        words: spaced.split_whitespace().collect(),
        at: 0,
        taken,
    };
    let allowed = words.any()?;
    match words.next() {
        None => Ok(allowed),
        Some(word) => Err(format!("unexpected `{word}`")),
    }
}

struct Words<'w, T> {
    words: Vec<&'w str>,
    at: usize,
    taken: T,
}

impl<'w, T: Fn(&str) -> bool> Words<'w, T> {
    fn next(&mut self) -> Option<&'w str> {
        let word = self.words.get(self.at).copied();
        self.at += 1;
        word
    }

    fn skip(&mut self, word: &str) -> bool {
        let there = self.words.get(self.at) == Some(&word);
        self.at += usize::from(there);
        there
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut allowed = self.all()?;
        while self.skip("OR") {
            allowed |= self.all()?;
        }
        Ok(allowed)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut allowed = self.one()?;
        while self.skip("AND") {
            allowed &= self.one()?;
        }
        Ok(allowed)
    }

    fn one(&mut self) -> Result<bool, String> {
        match self.next() {
            Some("(") => {
                let allowed = self.any()?;
                if self.skip(")") {
                    Ok(allowed)
                } else {
                    Err("a `)` is missing".to_owned())
                }
            }
            None | Some(")" | "OR" | "AND" | "WITH") => Err("a licence is missing".to_owned()),
            Some(licence) => {
                if self.skip("WITH") {
                    self.next().ok_or("an exception is missing")?;
                }
                Ok((self.taken)(licence))
            }
        }
    }
}

#[test]
fn an_expression_is_met_as_its_words_say() {
    let check = |expression: &str, expected: Result<bool, &str>| {
        let got = allows(expression, |licence| matches!(licence, "MIT" | "Zlib"));
        assert_eq!(got, expected.map_err(str::to_owned), "{expression}");
    };
    check("MIT", Ok(true));
    check("GPL-3.0", Ok(false));
    check("GPL-3.0 OR MIT", Ok(true));
    check("GPL-3.0/MIT", Ok(true));
    check("GPL-3.0 AND MIT", Ok(false));
    check("GPL-3.0 AND MIT OR Zlib", Ok(true));
    check("GPL-3.0 AND (MIT OR Zlib)", Ok(false));
    check("(GPL-3.0 OR MIT) AND Zlib", Ok(true));
    check("GPL-3.0 WITH exception OR MIT", Ok(true));
    check("", Err("a licence is missing"));
    check("MIT Zlib", Err("unexpected `Zlib`"));
    check("(MIT", Err("a `)` is missing"));
}
