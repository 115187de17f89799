//! Markup that cannot be injected: what is fixed in the program goes in as it is, everything else is escaped.

/// HTML under construction.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Appends markup. Only what is written in the program can be: nothing else is `'static`.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends text, also within a quoted attribute.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for part in text.chars() {
            match part {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(' '),
                part if part.is_control() || turns_text(part) => self.0.push('\u{fffd}'),
                part => self.0.push(part),
            }
        }
        self
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Characters that reorder what stands around them, and so can make one text look like another.
fn turns_text(part: char) -> bool {
    matches!(part, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_text() {
        let mut html = Html::default();
        html.raw("<p title=\"").text("\" onload='x' \u{202e}<script>&\u{0}").raw("\">");
        assert_eq!(
            html.finish(),
            "<p title=\"&quot; onload=&#39;x&#39; \u{fffd}&lt;script&gt;&amp;\u{fffd}\">"
        );
    }
}
