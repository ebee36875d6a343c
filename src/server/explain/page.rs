//! [`Page`]: indented sentences, broken into lines.

/// The longest line, in characters; a longer word has a line of its own.
const WIDTH: usize = 100;

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// The begin of a part.
    pub(super) fn heading(&mut self, text: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(0, "", text);
    }

    /// The begin of a section of a part.
    pub(super) fn section(&mut self, text: &str) {
        self.line(2, "", text);
    }

    /// A sentence of a part.
    pub(super) fn say(&mut self, sentence: &str) {
        self.line(2, "", sentence);
    }

    /// A sentence of a section.
    pub(super) fn detail(&mut self, sentence: &str) {
        self.line(4, "", sentence);
    }

    /// Names and what they are, below a sentence.
    pub(super) fn list(&mut self, indent: usize, items: &[(String, String)]) {
        for (name, words) in items {
            self.line(indent, "- ", &format!("{name}: {words}"));
        }
    }

    /// Items below a sentence.
    pub(super) fn items(&mut self, indent: usize, items: &[String]) {
        for item in items {
            self.line(indent, "- ", item);
        }
    }

    /// Something that a careful colleague would point out.
    pub(super) fn warn(&mut self, sentence: &str) {
        self.line(2, "! ", sentence);
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }

    fn line(&mut self, indent: usize, mark: &str, text: &str) {
        let mut column = indent + mark.len();
        self.0.push_str(&" ".repeat(indent));
        self.0.push_str(mark);
        for (place, word) in text.split(' ').enumerate() {
            let width = word.chars().count();
            if place > 0 && column + 1 + width > WIDTH {
                let margin = indent + 2;
                self.0.push('\n');
                self.0.push_str(&" ".repeat(margin));
                column = margin;
            } else if place > 0 {
                self.0.push(' ');
                column += 1;
            }
            self.0.push_str(word);
            column += width;
        }
        self.0.push('\n');
    }
}
