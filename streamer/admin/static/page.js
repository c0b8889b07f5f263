// News of the page's sections, as the server wrote them; without this script the page shows one moment.
"use strict";

const url = document.currentScript.dataset.events;
const link = document.getElementById("link");

function say(text, kind) {
  link.textContent = text;
  link.className = "link " + kind;
}

// What the reader holds stays still: a focused line, a table being scrolled, a stretch of text being marked.
function held(section) {
  const marked = document.getSelection();
  return section.contains(document.activeElement) || (!marked.isCollapsed && section.contains(marked.anchorNode));
}

const waiting = new Map();

function put(name, html) {
  const section = document.getElementById(name);
  if (!section) return;
  if (held(section)) {
    waiting.set(name, html);
  } else {
    waiting.delete(name);
    section.innerHTML = html;
  }
}

let source;

function listen() {
  source = new EventSource(url);
  source.addEventListener("open", () => say("live", "good"));
  source.addEventListener("error", () => say(source.readyState === EventSource.CLOSED ? "not live: reload the page" : "connection lost, trying again", "bad"));
  source.addEventListener("sections", (event) => {
    const { title, sections } = JSON.parse(event.data);
    document.title = title;
    for (const [name, html] of Object.entries(sections)) put(name, html);
    for (const [name, html] of [...waiting]) put(name, html);
  });
}

// A page that nobody looks at costs the daemon nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    source?.close();
    say("paused", "");
  } else if (source?.readyState !== EventSource.OPEN) {
    source?.close();
    listen();
  }
});

// The arrow keys walk along the events.
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const line = document.activeElement?.closest?.(".events li");
  const next = step && line?.[step]?.querySelector("a");
  if (!next) return;
  event.preventDefault();
  next.focus();
});

if (!document.hidden) listen();
