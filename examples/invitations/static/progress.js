// Show how far the task is. Without JavaScript, the page reloads itself instead.
const task = document.getElementById("task");
const bar = task.querySelector("progress");
const message = task.querySelector("[role=status]");

async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(response.status);
  return response;
}

async function show() {
  const now = await (await get(task.dataset.url)).json();
  if (now.message !== message.textContent) {
    const mails = await (await get(task.dataset.mails)).text();
    document.getElementById("mails").innerHTML = mails;
    message.textContent = now.message; // read aloud, as it is a live region
  }
  if (now.progress) {
    bar.max = now.progress.total;
    bar.value = now.progress.done;
  }
  task.dataset.state = now.state;
  return now.finished;
}

async function follow() {
  try {
    if (await show()) return;
  } catch {
    message.textContent = task.dataset.noAnswer;
  }
  setTimeout(follow, 500);
}

if (!["SUCCESS", "FAILURE"].includes(task.dataset.state)) follow();
