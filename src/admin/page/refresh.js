
"use strict";
(() => {
  const main = document.getElementById("main");
  const live = document.getElementById("live");
  const said = document.getElementById("said");
  let lost = null;

  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";

  // Never pull the page away under a reader who marks text in it.
  const reading = () => {
    const marked = getSelection();
    return marked && !marked.isCollapsed && main.contains(marked.anchorNode);
  };

  const swap = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html").body;
    const focused = main.contains(document.activeElement) && document.activeElement.getAttribute("href");
    main.replaceChildren(...fresh.childNodes);
    if (focused) main.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    const verdict = main.querySelector("[data-title]");
    if (!verdict) return;
    document.title = verdict.dataset.title;
    // A screen reader announces another matter, not each new figure of the same one.
    if (said.dataset.key !== verdict.dataset.key) {
      said.dataset.key = verdict.dataset.key;
      said.textContent = verdict.querySelector("h1").textContent;
    }
  };

  const refresh = async () => {
    if (document.hidden || reading()) return;
    try {
      const answer = await fetch("/?part=main", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(String(answer.status));
      swap(await answer.text());
      lost = null;
      live.className = "live";
      live.textContent = "live · " + clock();
    } catch (error) {
      lost ??= clock();
      live.className = "live lost";
      said.textContent = "Weir does not answer";
      said.dataset.key = "lost";
      live.textContent = "✖ Weir has not answered since " + lost + "; what you see is older";
      document.title = "✖ no answer · Weir";
    }
  };

  const again = () => refresh().finally(() => setTimeout(again, 2000));
  document.addEventListener("visibilitychange", refresh);
  setTimeout(again, 2000);
})();
