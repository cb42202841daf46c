// The mask explorer of the page "Masks and layouts": what MediaLayout.from_tokens reads off a text, as a picture.
// `maskExplorer.read` is held against MediaLayout on random texts by tests/browser/test_mask_explorer.py.
"use strict";

const maskExplorer = (() => {
  const TAG = "<image>";
  const TOKENS = /<image>|<EOC>|(?:(?!<image>|<EOC>)\S)+/g;

  // Words, tags and ends of a text; each line is a document of the packed row.
  function tokenize(text) {
    const tokens = [];
    const document = [];
    const lines = text.split("\n").map((line) => line.match(TOKENS) || []);
    lines.filter((words) => words.length > 0).forEach((words, number) => {
      tokens.push(...words);
      document.push(...words.map(() => number));
    });
    return { tokens, document };
  }

  // The items that each token sees, as a range of their numbers; null where it sees none.
  function read({ tokens, document, scope, direction }) {
    if (direction === "next" && scope !== "last") {
      throw new Error(`direction "next" is for scope "last": "${scope}" shows what came before`);
    }
    const tags = tokens.map((token, place) => (token === TAG ? place : -1)).filter((place) => place >= 0);
    const begins = (item) =>
      item === 0 || tags[item - 1] !== tags[item] - 1 || document[tags[item - 1]] !== document[tags[item]];
    const ranges = tokens.map((_, place) => {
      const own = tags.map((_, item) => item).filter((item) => document[tags[item]] === document[place]);
      const ahead = direction === "next";
      const seen = own.filter((item) => (ahead ? tags[item] >= place : tags[item] <= place));
      if (seen.length === 0) {
        return null;
      }
      const last = ahead ? seen[0] : seen[seen.length - 1];
      let first = scope === "all" ? seen[0] : last;
      while (scope === "grouped" && !begins(first)) {
        first -= 1;
      }
      return [first, last];
    });
    const mask = ranges.map((range) => tags.map((_, item) => range !== null && range[0] <= item && item <= range[1]));
    return { ranges, mask, items: tags.length };
  }

  // The call of the library that makes the same layout.
  function asPython({ tokens, document, scope, direction }) {
    const rows = (values) => `torch.tensor([[${values.join(", ")}]])`;
    const lines = [`is_media = ${rows(tokens.map((token) => (token === TAG ? "True" : "False")))}`];
    const options = [`scope="${scope}"`, `direction="${direction}"`];
    if (document.some((number) => number > 0)) {
      lines.push(`document = ${rows(document)}`);
      options.push("document=document");
    }
    lines.push(`layout = MediaLayout.from_tokens(is_media, ${options.join(", ")})`);
    return lines.join("\n");
  }

  function element(name, attributes, ...children) {
    const made = window.document.createElement(name);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    made.append(...children);
    return made;
  }

  function index(range) {
    if (range === null) {
      return "-";
    }
    return range[0] === range[1] ? `${range[1]}` : `${range[0]}-${range[1]}`;
  }

  function table(asked, found) {
    const items = [...Array(found.items).keys()];
    const head = element("tr", {}, ...["token", "sees"].map((word) => element("th", { scope: "col" }, word)),
      ...items.map((item) => element("th", { scope: "col" }, `item ${item}`)));
    const rows = asked.tokens.map((token, place) => {
      const begins = place > 0 && asked.document[place] !== asked.document[place - 1];
      return element("tr", { class: begins ? "begins" : "" },
        element("th", { scope: "row", class: token === TAG ? "tag" : "" }, token),
        element("td", {}, index(found.ranges[place])),
        ...items.map((item) => element("td", {
          class: found.mask[place][item] ? `seen item-${item % 6}` : "",
        }, found.mask[place][item] ? "sees" : "")));
    });
    return element("table", {}, element("caption", {}, "Which item each token may attend to"),
      element("thead", {}, head), element("tbody", {}, ...rows));
  }

  function chosen(form, name) {
    return form.elements.namedItem(name).value;
  }

  function redraw(form, shown) {
    const text = tokenize(chosen(form, "text"));
    const asked = { ...text, scope: chosen(form, "scope"), direction: chosen(form, "direction") };
    try {
      const code = element("pre", {}, element("code", { tabindex: "0" }, asPython(asked)));
      const found = read(asked);
      shown.replaceChildren(element("div", { class: "scrolls", tabindex: "0" }, table(asked, found)), code);
    } catch (error) {
      shown.replaceChildren(element("p", { role: "alert" }, error.message));
    }
  }

  function choice(name, values) {
    const options = values.map((value) => element("option", { value }, value));
    return element("label", {}, `${name} `, element("select", { name }, ...options));
  }

  function start(place) {
    const text = element("textarea", { name: "text", rows: "3", spellcheck: "false" });
    text.value = "Hi <image> a cat <EOC> <image> a dog";
    const form = element("form", {},
      element("label", {}, "Text, one document a line ", text),
      choice("scope", ["last", "all", "grouped"]), choice("direction", ["previous", "next"]));
    const shown = element("div", { "aria-live": "polite" });
    ["input", "change"].forEach((name) => form.addEventListener(name, () => redraw(form, shown)));
    form.addEventListener("submit", (event) => event.preventDefault());
    place.replaceChildren(form, shown);
    redraw(form, shown);
  }

  return { tokenize, read, start };
})();

window.maskExplorer = maskExplorer;
window.addEventListener("DOMContentLoaded", () => {
  const place = window.document.getElementById("mask-explorer");
  if (place !== null) {
    maskExplorer.start(place);
  }
});
