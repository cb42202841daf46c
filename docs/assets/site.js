// What scrolls sideways can be reached by the keyboard: blocks of code, and tables, which the theme wraps as it loads.
"use strict";

window.addEventListener("load", () => {
  window.document.querySelectorAll("pre > code, .md-typeset__scrollwrap").forEach((part) => {
    part.setAttribute("tabindex", "0");
  });
});
