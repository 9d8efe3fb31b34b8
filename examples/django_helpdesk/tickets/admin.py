"""The admin: tickets are seen, answered and closed."""

from django import forms
from django.contrib import admin
from django.http import Http404, HttpResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.http import content_disposition_header

from tickets.mail import NotSent, answer
from tickets.models import Attachment, Ticket


class TicketForm(forms.ModelForm):
    """The ticket's status, and an answer."""

    answer = forms.CharField(
        required=False, widget=forms.Textarea(attrs={"rows": 8, "cols": 80}),
        help_text="Is sent to the requester when you save.",
    )  # fmt: skip

    class Meta:
        """What of the ticket itself can be changed."""

        model = Ticket
        fields = ("status",)

    def clean(self):
        """See ModelForm; and send the answer: one that cannot be sent stays in the form."""
        cleaned = super().clean()
        text = cleaned.get("answer", "").strip()
        if text and not self.errors:
            try:
                answer(self.instance, text)
            except NotSent as error:
                raise forms.ValidationError(
                    {"answer": f"The answer was not sent: {error}"}
                ) from error
            cleaned["status"] = Ticket.Status.ANSWERED
        return cleaned


@admin.register(Ticket)
class TicketAdmin(admin.ModelAdmin):
    """The list of tickets, and a page for each."""

    form = TicketForm
    list_display = ("number", "title", "requester", "status", "updated")
    list_display_links = ("number", "title")
    list_filter = ("status",)
    search_fields = ("subject", "requester", "messages__text")
    fields = ("requester", "conversation", "answer", "status")
    readonly_fields = ("requester", "conversation")

    class Media:
        """The look of a conversation."""

        css = {"all": ["tickets/conversation.css"]}

    @admin.display(description="no.", ordering="pk")
    def number(self, ticket):
        """The ticket's number."""
        return ticket.pk

    @admin.display(description="subject", ordering="subject")
    def title(self, ticket):
        """The subject, or that there is none."""
        return ticket.subject or "(no subject)"

    @admin.display
    def conversation(self, ticket):
        """All that was written. What mail brings is text here, whatever it was."""
        return format_html_join(
            "",
            '<article class="{}"><header><b>{}</b> <time>{}</time></header><p>{}</p>{}</article>',
            (
                (
                    "ticket-message answer" if each.is_answer else "ticket-message",
                    each.sender,
                    f"{timezone.localtime(each.created):%Y-%m-%d %H:%M}",
                    each.text,
                    self._files(each),
                )
                for each in ticket.messages.prefetch_related("attachments")
            ),
        )

    def _files(self, message):
        links = format_html_join(
            "",
            '<li><a href="{}">{}</a> ({})</li>',
            (
                (reverse("admin:ticket_attachment", args=[each.pk]), each, each.content_type)
                for each in message.attachments.all()
            ),
        )
        return format_html("<ul>{}</ul>", links) if links else ""

    def has_add_permission(self, request):
        """Tickets come by mail."""
        return False

    def get_urls(self):
        """See ModelAdmin; and the attachments."""
        view = self.admin_site.admin_view(self.attachment)
        return [
            path("attachments/<int:number>/", view, name="ticket_attachment"),
            *super().get_urls(),
        ]

    def attachment(self, request, number):
        """A file of no type that a browser would show."""
        found = Attachment.objects.filter(pk=number).first()
        if found is None or not self.has_view_permission(request):
            raise Http404
        headers = {
            "Content-Disposition": content_disposition_header(True, found.filename),
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        }
        return HttpResponse(bytes(found.content), "application/octet-stream", headers=headers)
