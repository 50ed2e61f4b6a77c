"""The pages' texts, and the choice of the visitor's language."""

from __future__ import annotations

from flask import request

ENGLISH = {
    "title": "Invitations",
    "invite": "Invite someone to the party",
    "intro": "A Celery worker writes the mail. With flask-task-context it knows your"
    " request: the mail is in your browser's language, with a link to the address that"
    " you see above.",
    "name": "Your name",
    "email": "Your friend's address",
    "send": "Send the invitation",
    "try_without": "Try it without flask-task-context",
    "invite_many": "A longer job: invite many",
    "emails": "Addresses, one a line",
    "send_many": "Send all invitations",
    "mistake": "Mistake",
    "missing": "Please fill in this field.",
    "no_address": "“{}” is no mail address.",
    "your_invitations": "Your invitations",
    "waiting": "Waiting for the worker…",
    "sending": "Sent: {done} of {total}",
    "finished": "Finished. Sent: {done} of {total}",
    "failed": "The task failed.",
    "failed_without": "The task failed, as it must without flask-task-context.",
    "no_answer": "The server does not answer. Trying again…",
    "again": "Invite someone else",
    "mails": "Sent mails",
    "no_mails": "None.",
    "sender": "From",
    "receiver": "To",
    "subject": "Subject",
    "seen": "Seen by the task",
    "host": "Host",
    "language": "Language",
    "session": "Session",
    "without": "Without flask-task-context the same task has no request, and fails:",
    "welcome": "See you at the party!",
    "code": "Your invitation has the code",
    "invite_yourself": "Invite someone yourself",
}

GERMAN = {
    "title": "Einladungen",
    "invite": "Lade jemanden zum Fest ein",
    "intro": "Ein Celery-Worker schreibt die Mail. Mit flask-task-context kennt er deinen"
    " Request: die Mail ist in der Sprache deines Browsers, mit einem Link auf die"
    " Adresse, die du oben siehst.",
    "name": "Dein Name",
    "email": "Adresse deiner Freundin oder deines Freundes",
    "send": "Einladung senden",
    "try_without": "Ohne flask-task-context versuchen",
    "invite_many": "Eine längere Aufgabe: viele einladen",
    "emails": "Adressen, eine je Zeile",
    "send_many": "Alle Einladungen senden",
    "mistake": "Fehler",
    "missing": "Bitte fülle dieses Feld aus.",
    "no_address": "„{}“ ist keine Mailadresse.",
    "your_invitations": "Deine Einladungen",
    "waiting": "Der Worker fängt gleich an …",
    "sending": "Gesendet: {done} von {total}",
    "finished": "Fertig. Gesendet: {done} von {total}",
    "failed": "Die Aufgabe ist fehlgeschlagen.",
    "failed_without": "Die Aufgabe ist fehlgeschlagen, wie es ohne flask-task-context"
    " sein muss.",
    "no_answer": "Der Server antwortet nicht. Neuer Versuch …",
    "again": "Noch jemanden einladen",
    "mails": "Gesendete Mails",
    "no_mails": "Keine.",
    "sender": "Von",
    "receiver": "An",
    "subject": "Betreff",
    "seen": "Was der Task gesehen hat",
    "host": "Host",
    "language": "Sprache",
    "session": "Session",
    "without": "Ohne flask-task-context hat derselbe Task keinen Request und scheitert:",
    "welcome": "Bis bald beim Fest!",
    "code": "Deine Einladung hat den Code",
    "invite_yourself": "Selbst jemanden einladen",
}

FRENCH = {
    "title": "Invitations",
    "invite": "Invite quelqu'un à la fête",
    "intro": "Un worker Celery écrit le mail. Avec flask-task-context, il connaît ta"
    " requête : le mail est dans la langue de ton navigateur, avec un lien vers l'adresse"
    " que tu vois en haut.",
    "name": "Ton nom",
    "email": "L'adresse de ton ami(e)",
    "send": "Envoyer l'invitation",
    "try_without": "Essayer sans flask-task-context",
    "invite_many": "Une tâche plus longue : inviter plusieurs personnes",
    "emails": "Adresses, une par ligne",
    "send_many": "Envoyer toutes les invitations",
    "mistake": "Erreur",
    "missing": "Remplis ce champ, s'il te plaît.",
    "no_address": "« {} » n'est pas une adresse mail.",
    "your_invitations": "Tes invitations",
    "waiting": "Le worker va commencer…",
    "sending": "Envoyé : {done} sur {total}",
    "finished": "Terminé. Envoyé : {done} sur {total}",
    "failed": "La tâche a échoué.",
    "failed_without": "La tâche a échoué, comme il se doit sans flask-task-context.",
    "no_answer": "Le serveur ne répond pas. Nouvel essai…",
    "again": "Inviter quelqu'un d'autre",
    "mails": "Mails envoyés",
    "no_mails": "Aucun.",
    "sender": "De",
    "receiver": "À",
    "subject": "Objet",
    "seen": "Ce que la tâche a vu",
    "host": "Hôte",
    "language": "Langue",
    "session": "Session",
    "without": "Sans flask-task-context, la même tâche n'a pas de requête et échoue :",
    "welcome": "À bientôt à la fête !",
    "code": "Ton invitation porte le code",
    "invite_yourself": "Inviter quelqu'un à ton tour",
}

TEXTS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH}


def language() -> str:
    """The visitor's language. In a task, this is the same as in the view."""
    return request.accept_languages.best_match(TEXTS, default="en")


def texts() -> dict[str, str]:
    return TEXTS[language()]
