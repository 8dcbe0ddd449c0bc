//! [`Arguments`]: `--name value` pairs.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::Result;

/// Options of the form `--name value` or `--name` alone.
#[derive(Debug, Default)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Takes a command line apart.
    ///
    /// # Errors
    /// For a word that is no option, and for one that is not in `known`.
    pub fn parse(words: impl IntoIterator<Item = String>, known: &[&str]) -> Result<Arguments> {
        let mut given = BTreeMap::new();
        let mut words = words.into_iter().peekable();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").filter(|n| known.contains(n)) else {
                return Err(
                    format!("{word}: no such option; there is --{}", known.join(", --")).into()
                );
            };
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_default();
            given.insert(name.to_owned(), value);
        }
        Ok(Arguments(given))
    }

    /// Whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The text of an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// An option of some type, or its default.
    ///
    /// # Errors
    /// Where the value is none of that type.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        match self.0.get(name) {
            None => Ok(default),
            Some(text) => {
                text.parse().map_err(|_| format!("--{name}: {text:?} does not fit").into())
            }
        }
    }

    /// A comma-separated list; empty where the option was not given.
    ///
    /// # Errors
    /// Where a value is none of that type.
    pub fn list<T: FromStr>(&self, name: &str) -> Result<Vec<T>> {
        let text = self.0.get(name).map_or("", String::as_str);
        text.split(',')
            .filter(|item| !item.is_empty())
            .map(|item| item.parse().map_err(|_| format!("--{name}: {item:?} does not fit").into()))
            .collect()
    }
}
