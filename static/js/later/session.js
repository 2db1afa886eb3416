// session.js: the session is over, or soon will be: one signs in over the page, and what was being sent goes on.
// The forms are the server's own, so a second factor and a wrong password are asked about as on their own pages.
const words = JSON.parse(document.getElementById("words").textContent);
const sheet = document.getElementById("session-sheet");
const body = sheet.querySelector("[data-body]");

export function warn(composer) {
  body.replaceChildren();
  draw(words.session_ends, words.stay, async () => {
    const headers = { "X-CSRFToken": composer.token.value };
    const answer = await fetch(composer.dataset.stay, { method: "POST", headers }).catch(() => null);
    if (answer?.ok) sheet.close();
    else ask(composer);
  });
}

// A token that was good before somebody signed in anew: true = the page may go on with a new one.
export async function renew(composer) {
  const answer = await fetch(location.href).catch(() => null);
  return Boolean(answer) && take(composer, answer, parse(await answer.text()));
}

export function ask(composer, act) {
  const login = new URL(composer.dataset.signIn, location.href);
  login.searchParams.set("next", location.pathname);
  draw(words.session_over, "", null);
  step(fetch(login));

  async function step(asked) {
    const answer = await asked.catch(() => null);
    const page = answer && parse(await answer.text());
    if (page && take(composer, answer, page)) {
      sheet.close();
      return act?.();
    }
    const form = page?.querySelector("main form[method=post]:not([action*=logout])");
    if (!form) return draw(words.not_sent, words.try_now, () => ask(composer, act));
    const action = new URL(form.getAttribute("action") || answer.url, answer.url);
    if (action.origin !== location.origin) return;
    body.replaceChildren(document.importNode(form, true));
    const shown = body.firstElementChild;
    shown.addEventListener("submit", (event) => {
      event.preventDefault();
      const fields = new FormData(shown, event.submitter);
      if (!fields.has("next")) fields.set("next", location.pathname);
      step(fetch(action, { method: "POST", body: fields }));
    });
    (shown.querySelector("[aria-invalid=true]") ?? shown.querySelector("input:not([type=hidden])"))?.focus();
  }
}

function parse(html) {
  return new DOMParser().parseFromString(html.replace(/<style.*?<\/style>/gs, ""), "text/html"); // its nonce is not ours
}

function take(composer, answer, page) {
  const token = page.querySelector("#composer-form [name=csrfmiddlewaretoken]")?.value;
  if (!answer.ok || !token) return false;
  if (page.querySelector("chat-composer").dataset.owner !== composer.dataset.owner) {
    location.reload(); // somebody else is signed in now: this page is not theirs
    return false;
  }
  for (const field of document.querySelectorAll("[name=csrfmiddlewaretoken]")) field.value = token;
  document.body.setAttribute("hx-headers:inherited", JSON.stringify({ "X-CSRFToken": token }));
  return true;
}

function draw(sentence, word, act) {
  sheet.querySelector("[data-said]").textContent = sentence;
  const button = sheet.querySelector("[data-act]");
  button.hidden = !act;
  button.textContent = word;
  button.onclick = act;
  if (!sheet.open) sheet.showModal();
}
