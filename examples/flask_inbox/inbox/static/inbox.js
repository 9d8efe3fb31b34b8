"use strict";

// The tabs of a message.
const tabs = [...document.querySelectorAll("[role=tab]")];
function choose(tab) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", String(each === tab));
    document.getElementById(each.dataset.tab).hidden = each !== tab;
  }
}
for (const tab of tabs) tab.addEventListener("click", () => choose(tab));
if (tabs.length) choose(tabs[0]);

// The list, anew whenever there is news.
const list = document.getElementById("list");
async function renew() {
  const query = list.dataset.words ? "?q=" + encodeURIComponent(list.dataset.words) : "";
  const answer = await fetch(list.dataset.url + query);
  if (!answer.ok) return;
  list.innerHTML = await answer.text(); // Of our own template, which escapes what mail brings.
  const chosen = list.querySelector(`[data-id="${list.dataset.chosen}"]`);
  if (chosen) chosen.parentElement.classList.add("chosen");
}
const events = new EventSource(list.dataset.events);
events.onmessage = renew;
// What came while there was no connection is news, too.
events.onopen = renew;
