//! Names that have to be unique.

use std::collections::HashMap;

/// The names that are taken, each with the last number that was put behind it.
#[derive(Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    /// `wanted`, or where that is taken the same with the next number behind it that makes it unique.
    pub(super) fn fresh(&mut self, wanted: &str) -> String {
        let Some(&last) = self.0.get(wanted) else {
            self.0.insert(wanted.to_owned(), 1);
            return wanted.to_owned();
        };
        let mut count = last + 1;
        let mut name = format!("{wanted}_{count}");
        while self.0.contains_key(&name) {
            count += 1;
            name = format!("{wanted}_{count}");
        }
        self.0.insert(wanted.to_owned(), count);
        self.0.insert(name.clone(), 1);
        name
    }
}

impl<'a> FromIterator<&'a String> for Names {
    fn from_iter<I: IntoIterator<Item = &'a String>>(names: I) -> Self {
        Names(names.into_iter().map(|name| (name.clone(), 1)).collect())
    }
}
