//! One line per rule of sentence splitting: `|` marks where a boundary must be, and nowhere else.

use tavq_text::EnglishSplitter;

/// `|` stands where a boundary is expected; it is not part of the text.
fn check(marked: &str) {
    let text = marked.replace('|', "");
    let expected: Vec<&str> = marked.split('|').map(str::trim).collect();
    let found: Vec<&str> = EnglishSplitter::default().sentences(&text).iter().map(|s| &text[s.start..s.end]).collect();
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn terminators() {
    check("A cup stands here.| Is it full?| No!| It is empty.");
    check("What a view!!| Nobody is there?!| Look.");
    check("The door is open...| A cat walks in.");
    check("It fades ... then it stops.| The end.");
    check("The row goes on . . . and on.| Then it ends. . . .| Night falls.");
    check("红色的杯子。|蓝色的盘子！|Fin.");
}

#[test]
fn abbreviations() {
    check("Mt. Hood rises behind St. Mary's Church.| Dr. A. Lee waits.");
    check("A plaque names J. K. Rowan and Martin King Jr. in gold.| It shines.");
    check("A U.S. Navy ship sails past Washington, D.C., at noon.| It is grey.");
    check("The flag is from the U.S.| The pole is white.");
    check("Shops, cafés, etc. line the street.| It is 5 p.m. on a clock.| At 6 a.m. Mr. Hill arrives.");
    check("See fig. 4 and no. 12 on p. 3.| The answer was no.| Two signs say so.");
    check("A letter A.| The next is vitamin C.| Fresh fruit.");
    check("They are Ann and I.| We smile.");
}

#[test]
fn words_that_look_like_abbreviations() {
    check("He wears a baseball cap.| The lamp is not lit.| It is modern art.| She leans in.| Then she sat.");
}

#[test]
fn quotes_and_brackets() {
    check("A sign reads \"STOP!\" in red.| A tag says \"SALE.\"| The shelf is bare.");
    check("“Wait here.” she said.| The label is “SPECIAL K.”| Beside it is a bowl.");
    check("The text is \"FRESH. \"| The jar is tall.");
    check("A man (he waves.) stands there.| (The rest is dark.)| A dog runs.");
    check("The caption \"Yes [...] no\" is cut.| It is old.");
}

#[test]
fn spacing() {
    check("Foam covers the rim.|The cup is blue.| It cost 1,000.|That is a lot.");
    check("One shoe is on.\u{a0}| The other is off.");
    check("the sky is grey. |it will rain.");
    check("There is a link: http://www.example.org/a/b/ |The image has a watermark.");
    check("The link www.example.org/Home |It is blue.| See www.example.org, The Times and www.example.org today.");
    check("Visit https://www.example.org/a.b?c=D.e now.| Or write to Ann.Lee@example.com today.");
    check("It weighs 3.5 kg and costs $4.99.| It is version 2.0.1 of file.Txt here.");
}

#[test]
fn lines_and_lists() {
    check("A title\n\n|A paragraph goes on\nover two lines and ends.\n|Another one.");
    check("A plaque says the fort stood in\n\nthe shape of a star on this\n\nisland and for the\n\n89 men.| Done.");
    check("red cup\n\n|blue plate\n\n|two forks");
    check("It reads as follows:\n\nfirst line in capitals.| Done.");
    check("1. A red cup |2. A blue plate |3. A fork");
    check("1) a cup |2) a plate");
    check("a. A cup. |b. A plate.");
    check("• A cup • and |".trim_end_matches(" • and |"));
    check("• A cup |• a plate |• a fork");
    check("A cup and 2. plates are here.");
    check("The row holds (1) a cup and (2) a plate.| Both are white.");
    check("Take either: a) the red cup or b) the blue one.| Done.");
    check("It opens at 10 a.m. (CDT) in the hall.| Come.");
    check("- one cup\n|- two plates\n|- a fork");
}

#[test]
fn repetition_keeps_every_copy() {
    check("The cat is red.| The cat is red.| The cat is red.");
}

#[test]
fn nothing_and_only_white_space_give_no_sentence() {
    assert!(EnglishSplitter::default().sentences("").is_empty());
    assert!(EnglishSplitter::default().sentences(" \n\t\u{a0}\n").is_empty());
}
