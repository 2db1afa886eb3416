// prefs.js: the cookie in which the server draws the next page, however soon it is asked for; null leaves a choice out of it.
export function remember(name, value) {
  const told = document.cookie.match(/(?:^|; )prefs="?([^";]*)/)?.[1] ?? "";
  const prefs = new URLSearchParams(told);
  if (value === null) prefs.delete(name);
  else prefs.set(name, value);
  document.cookie = `prefs=${prefs}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
}

export function store(form) { // the profile has it too, for one's other browsers
  fetch(form.action, { method: "POST", body: new FormData(form), keepalive: true, headers: { "HX-Request": "true" } }).catch(() => {});
}
