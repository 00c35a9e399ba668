//! Selectors: parts and text say the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mayfly_sdk::Selector;

fuzz_target!(|text: &str| {
    if let Ok(selector) = text.parse::<Selector>() {
        assert_eq!(selector.as_str(), text);
        assert_eq!(Selector::new(selector.kind(), selector.key(), selector.value()), Ok(selector));
    }
});
