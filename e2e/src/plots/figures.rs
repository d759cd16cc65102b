//! A bench's file, read field by field.

use std::path::Path;

use serde_json::Value;

use super::PlotError;

/// `target/bench/<id>.json`.
#[derive(Debug)]
pub(super) struct Figures {
    id: String,
    root: Value,
}

/// One value of the file, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    id: &'a str,
    at: String,
    value: &'a Value,
}

impl Figures {
    /// `None` if there is no such file.
    pub(super) fn read(folder: &Path, id: &str) -> Result<Option<Self>, PlotError> {
        let path = folder.join(format!("{id}.json"));
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(id, &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PlotError::File { path, source }),
        }
    }

    pub(super) fn parse(id: &str, text: &str) -> Result<Self, PlotError> {
        let root = serde_json::from_str(text).map_err(|source| PlotError::Json { id: id.into(), source })?;
        Ok(Self { id: id.into(), root })
    }

    /// The whole file.
    pub(super) fn root(&self) -> Field<'_> {
        Field {
            id: &self.id,
            at: String::new(),
            value: &self.root,
        }
    }

    /// What was measured.
    pub(super) fn figures(&self) -> Result<Field<'_>, PlotError> {
        self.root().get("figures")
    }

    /// What repeats it, of which commit, when and on what: the line below a picture.
    pub(super) fn origin(&self) -> Result<String, PlotError> {
        let root = self.root();
        let machine = root.get("machine")?;
        let date = root.text("date")?;
        let day = date.split('T').next().unwrap_or_default();
        let commit = root
            .known("commit")
            .map_or(Ok("unknown"), |commit| commit.as_text())?
            .to_owned();
        let processor = machine
            .known("processor")
            .map_or(Ok("processor unknown"), |name| name.as_text())?
            .to_owned();
        Ok(format!(
            "{} · commit {commit} · {day} · {processor}, {} cores",
            root.text("command")?,
            machine.number("cores")?
        ))
    }
}

impl<'a> Field<'a> {
    fn wrong(&self, wanted: &'static str) -> PlotError {
        let found = match self.value {
            Value::Null => "missing or null".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            other => other.to_string(),
        };
        PlotError::Field {
            id: self.id.to_owned(),
            field: self.at.clone(),
            found,
            wanted,
        }
    }

    fn at(&self, name: &str, value: Option<&'a Value>) -> Self {
        Self {
            id: self.id,
            at: format!("{}/{name}", self.at),
            value: value.unwrap_or(&Value::Null),
        }
    }

    /// A field of an object that has to be there.
    pub(super) fn get(&self, name: &str) -> Result<Self, PlotError> {
        let field = self.at(name, self.value.get(name));
        if field.value.is_null() {
            return Err(field.wrong("a value"));
        }
        Ok(field)
    }

    /// A field that may be missing or null.
    pub(super) fn known(&self, name: &str) -> Option<Self> {
        self.get(name).ok()
    }

    /// The elements of a list.
    pub(super) fn items(&self, name: &str) -> Result<Vec<Self>, PlotError> {
        let list = self.get(name)?;
        let values = list.value.as_array().ok_or_else(|| list.wrong("a list"))?;
        let at = |(index, value): (usize, &'a Value)| list.at(&index.to_string(), Some(value));
        Ok(values.iter().enumerate().map(at).collect())
    }

    /// A finite number.
    pub(super) fn number(&self, name: &str) -> Result<f64, PlotError> {
        self.get(name)?.as_number()
    }

    pub(super) fn as_number(&self) -> Result<f64, PlotError> {
        self.value.as_f64().ok_or_else(|| self.wrong("a number"))
    }

    pub(super) fn text(&self, name: &str) -> Result<&'a str, PlotError> {
        self.get(name)?.as_text()
    }

    pub(super) fn as_text(&self) -> Result<&'a str, PlotError> {
        self.value.as_str().ok_or_else(|| self.wrong("a text"))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, PlotError> {
        let field = self.get(name)?;
        field.value.as_bool().ok_or_else(|| field.wrong("true or false"))
    }
}
