//! Ids as small numbers.

use std::collections::HashMap;

use pagoda_model::InvalidId;

use crate::bad_rows::shown;

/// Numbers ids in the order in which they first occur.
pub(crate) struct Interner<Id> {
    places: HashMap<Box<str>, u32>,
    /// The ids by their numbers.
    pub(crate) ids: Vec<Id>,
}

impl<Id> Default for Interner<Id> {
    fn default() -> Self {
        Self { places: HashMap::new(), ids: Vec::new() }
    }
}

impl<Id> Interner<Id> {
    pub(crate) fn get(&self, text: &str) -> Option<u32> {
        self.places.get(text).copied()
    }

    /// The id's number; a text that is no id is an error.
    pub(crate) fn intern(&mut self, text: &str, make: fn(&str) -> Result<Id, InvalidId>) -> Result<u32, String> {
        if let Some(place) = self.get(text) {
            return Ok(place);
        }
        let id = make(text).map_err(|e| format!("{e} (found {})", shown(text)))?;
        let place = u32::try_from(self.ids.len()).map_err(|_| "more ids than 32 bits can number".to_owned())?;
        self.ids.push(id);
        self.places.insert(text.into(), place);
        Ok(place)
    }
}
