"""The admin is all there is to see."""

from django.contrib import admin
from django.urls import path

admin.site.site_header = admin.site.site_title = "Helpdesk"

urlpatterns = [path("", admin.site.urls)]
